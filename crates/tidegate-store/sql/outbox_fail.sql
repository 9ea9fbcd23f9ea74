UPDATE outbox SET attempts = attempts + 1, last_error = $2, next_attempt_at = $3
WHERE id = $1 AND dead = 0
