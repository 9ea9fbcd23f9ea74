UPDATE outbox SET next_attempt_at = $3
WHERE id IN (
    SELECT due.id
    FROM outbox AS due
    WHERE due.dead = 0 AND due.next_attempt_at <= $2
        AND NOT EXISTS (
            SELECT 1
            FROM outbox AS earlier
            WHERE earlier.dead = 0 AND earlier.project = due.project
                AND earlier.topic = due.topic AND earlier.id < due.id
        )
    ORDER BY due.id
    LIMIT $1
)
RETURNING id, project, topic, payload, created_at, attempts, last_error
