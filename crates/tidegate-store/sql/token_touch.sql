UPDATE token SET last_used_at = $2
WHERE selector = $1 AND (last_used_at IS NULL OR last_used_at < $2)
