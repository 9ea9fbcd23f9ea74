SELECT selector, kind, project, name, roles, hash, created_at, created_by_kind, created_by_id, expires_at, last_used_at, disabled_at
FROM token
WHERE selector = $1
