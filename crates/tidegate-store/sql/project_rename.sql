UPDATE project SET name = $2, revision = $3, updated_at = $4 WHERE key = $1
