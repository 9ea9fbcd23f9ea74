DELETE FROM outbox WHERE id = $1 AND dead = 0
