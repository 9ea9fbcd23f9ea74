INSERT INTO idempotency (project, key, request_digest, revision, config_version, epoch, audit_sequence, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
