UPDATE outbox SET attempts = attempts + 1, last_error = $2, dead = 1 WHERE id = $1 AND dead = 0
