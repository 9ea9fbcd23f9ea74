SELECT selector, hash, person_id, purpose, created_at, expires_at FROM one_time_link WHERE selector = $1
