INSERT INTO person (id, email, name, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
