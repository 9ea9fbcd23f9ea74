INSERT INTO audit_note (sequence, salt, reason, changes) VALUES ($1, $2, $3, $4)
