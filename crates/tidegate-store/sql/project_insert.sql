INSERT INTO project (key, name, revision, config_version, created_at, updated_at)
VALUES ($1, $2, 1, 0, $3, $3)
