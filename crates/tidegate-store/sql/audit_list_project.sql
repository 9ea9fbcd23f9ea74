SELECT entry.sequence, entry.epoch, entry.at_us, entry.project, entry.actor_kind, entry.actor_id, entry.action,
    entry.object_kind, entry.object_key, entry.revision, entry.before_digest, entry.after_digest,
    entry.note_digest, entry.previous_hash, entry.hash, note.salt, note.reason, note.changes
FROM audit_entry AS entry
LEFT JOIN audit_note AS note ON note.sequence = entry.sequence
WHERE entry.sequence > $1 AND (entry.project = $3 OR ($4 AND entry.project IS NULL))
ORDER BY entry.sequence
LIMIT $2
