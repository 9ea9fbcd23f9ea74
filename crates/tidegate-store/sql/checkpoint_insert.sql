INSERT INTO audit_checkpoint (sequence, epoch, hash, signed_at, key_id, signature)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (sequence, epoch, key_id, signed_at) DO NOTHING
