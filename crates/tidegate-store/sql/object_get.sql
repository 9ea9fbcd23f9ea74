SELECT project, kind, key, revision, spec, digest, deleted, created_at, updated_at, actor_kind, actor_id
FROM object
WHERE project = $1 AND kind = $2 AND key = $3
