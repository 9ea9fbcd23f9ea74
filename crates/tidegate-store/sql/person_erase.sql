UPDATE person SET email = NULL, name = NULL, password = NULL, disabled_at = COALESCE(disabled_at, $2)
WHERE id = $1
