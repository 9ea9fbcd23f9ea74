DELETE FROM one_time_link WHERE person_id = $1
