UPDATE project SET config_version = config_version + 1 WHERE key = $1 RETURNING config_version
