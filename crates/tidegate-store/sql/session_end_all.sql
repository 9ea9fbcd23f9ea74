DELETE FROM sign_in WHERE person_id = $1
