INSERT INTO token (selector, kind, project, name, roles, hash, created_at, created_by_kind, created_by_id,
    expires_at, last_used_at, disabled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (selector) DO NOTHING
