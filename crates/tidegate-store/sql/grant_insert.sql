INSERT INTO role_grant (person_id, role, scope, project, tag) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
