SELECT id, email, name, password, created_at, disabled_at FROM person WHERE id = $1
