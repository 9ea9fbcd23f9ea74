INSERT INTO sign_in (selector, hash, person_id, created_at, expires_at, last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (selector) DO NOTHING
