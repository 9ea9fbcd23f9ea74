INSERT INTO one_time_link (selector, hash, person_id, purpose, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (selector) DO NOTHING
