SELECT COALESCE(MAX(sequence), 0) AS head FROM stream_record WHERE project = $1 AND stream = $2
