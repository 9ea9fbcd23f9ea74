SELECT selector, hash, person_id, created_at, expires_at, last_seen_at FROM sign_in WHERE selector = $1
