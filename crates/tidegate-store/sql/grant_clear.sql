DELETE FROM role_grant WHERE person_id = $1
