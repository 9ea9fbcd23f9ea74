DELETE FROM sign_in WHERE selector = $1
