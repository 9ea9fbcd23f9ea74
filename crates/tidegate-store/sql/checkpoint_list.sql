SELECT sequence, epoch, hash, signed_at, key_id, signature
FROM audit_checkpoint
WHERE sequence > $1
ORDER BY sequence, epoch, signed_at, key_id
LIMIT $2
