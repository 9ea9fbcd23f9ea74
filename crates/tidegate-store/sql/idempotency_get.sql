SELECT request_digest, revision, config_version, epoch, audit_sequence
FROM idempotency
WHERE project = $1 AND key = $2
