DELETE FROM one_time_link WHERE expires_at < $1
