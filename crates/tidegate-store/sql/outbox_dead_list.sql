SELECT id, project, topic, payload, created_at, attempts, last_error
FROM outbox
WHERE dead = 1 AND project = $1 AND id > $2
ORDER BY id
LIMIT $3
