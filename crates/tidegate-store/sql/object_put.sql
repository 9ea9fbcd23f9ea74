INSERT INTO object (project, kind, key, revision, spec, digest, deleted, created_at, updated_at, actor_kind, actor_id)
VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $7, $8, $9)
ON CONFLICT (project, kind, key) DO UPDATE SET
    revision = excluded.revision,
    spec = excluded.spec,
    digest = excluded.digest,
    deleted = 0,
    updated_at = excluded.updated_at,
    actor_kind = excluded.actor_kind,
    actor_id = excluded.actor_id
