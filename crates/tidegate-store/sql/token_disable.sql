UPDATE token SET disabled_at = $2 WHERE selector = $1 AND disabled_at IS NULL RETURNING project
