UPDATE outbox SET dead = 0, next_attempt_at = $2 WHERE id = $1 AND dead = 1
