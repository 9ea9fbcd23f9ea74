INSERT INTO outbox (project, topic, payload, created_at, attempts, next_attempt_at, dead)
VALUES ($1, $2, $3, $4, 0, $4, 0)
