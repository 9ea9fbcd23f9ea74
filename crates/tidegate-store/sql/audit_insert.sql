INSERT INTO audit_entry (sequence, epoch, at_us, project, actor_kind, actor_id, action, object_kind, object_key,
    revision, before_digest, after_digest, note_digest, previous_hash, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
