SELECT key, name, revision, config_version, created_at, updated_at FROM project WHERE key = $1
