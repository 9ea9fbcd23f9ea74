SELECT role, scope, project, tag FROM role_grant WHERE person_id = $1 ORDER BY role, scope, project, tag
