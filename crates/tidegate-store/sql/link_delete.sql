DELETE FROM one_time_link WHERE selector = $1
