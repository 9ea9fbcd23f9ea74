SELECT sequence, digest FROM stream_record WHERE project = $1 AND source = $2 AND delivery_id = $3
