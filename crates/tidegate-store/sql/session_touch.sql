UPDATE sign_in SET last_seen_at = $2 WHERE selector = $1 AND last_seen_at < $2
