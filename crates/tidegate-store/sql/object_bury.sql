UPDATE object SET revision = $4, deleted = 1, updated_at = $5, actor_kind = $6, actor_id = $7
WHERE project = $1 AND kind = $2 AND key = $3
