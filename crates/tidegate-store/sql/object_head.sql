SELECT revision, deleted, digest FROM object WHERE project = $1 AND kind = $2 AND key = $3
