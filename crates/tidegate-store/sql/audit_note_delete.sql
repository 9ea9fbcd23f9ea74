DELETE FROM audit_note WHERE sequence = $1
