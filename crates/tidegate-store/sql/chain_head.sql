SELECT meta.number AS store_epoch, entry.sequence, entry.epoch, entry.hash
FROM store_meta AS meta
LEFT JOIN audit_entry AS entry ON entry.sequence = (SELECT MAX(sequence) FROM audit_entry)
WHERE meta.name = 'epoch'
