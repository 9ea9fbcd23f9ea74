SELECT sequence, payload, digest, source, delivery_id, appended_at
FROM stream_record
WHERE project = $1 AND stream = $2 AND sequence > $3
ORDER BY sequence
LIMIT $4
