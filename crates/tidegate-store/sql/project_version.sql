SELECT project.config_version, meta.number AS epoch
FROM project, store_meta AS meta
WHERE project.key = $1 AND meta.name = 'epoch'
