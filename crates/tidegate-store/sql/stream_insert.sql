INSERT INTO stream_record (project, stream, sequence, payload, digest, source, delivery_id, appended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
