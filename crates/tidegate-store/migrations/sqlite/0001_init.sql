-- First schema: everything that docs/storage.md describes.
-- Times are microseconds since the Unix epoch; digests are 32 bytes; JSON is kept as text,
-- because its digest is taken over exactly that text.

CREATE TABLE store_meta (
    name   TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;

INSERT INTO store_meta (name, number) VALUES ('epoch', 1);

CREATE TABLE project (
    key            TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    revision       INTEGER NOT NULL,
    config_version INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT;

-- The newest revision of each key, tombstones included.
CREATE TABLE object (
    project    TEXT NOT NULL REFERENCES project (key),
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    spec       TEXT NOT NULL,
    digest     BLOB NOT NULL,
    deleted    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    PRIMARY KEY (project, kind, key)
) STRICT;

-- Every revision of each key, the newest included.
CREATE TABLE object_revision (
    project    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    spec       TEXT NOT NULL,
    digest     BLOB NOT NULL,
    deleted    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    PRIMARY KEY (project, kind, key, revision),
    FOREIGN KEY (project, kind, key) REFERENCES object (project, kind, key)
) STRICT;

CREATE TABLE idempotency (
    project        TEXT NOT NULL REFERENCES project (key),
    key            TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    revision       INTEGER NOT NULL,
    config_version INTEGER NOT NULL,
    epoch          INTEGER NOT NULL,
    audit_sequence INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) STRICT;

CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE audit_entry (
    sequence      INTEGER PRIMARY KEY,
    epoch         INTEGER NOT NULL,
    at_us         INTEGER NOT NULL,
    project       TEXT,
    actor_kind    TEXT NOT NULL,
    actor_id      TEXT NOT NULL,
    action        TEXT NOT NULL,
    object_kind   TEXT,
    object_key    TEXT,
    revision      INTEGER,
    before_digest BLOB,
    after_digest  BLOB,
    note_digest   BLOB,
    previous_hash BLOB NOT NULL,
    hash          BLOB NOT NULL
) STRICT;

CREATE INDEX audit_entry_object ON audit_entry (project, object_kind, object_key, sequence);

-- Accidents are stopped here; intent is what the chain and its checkpoints are for.
CREATE TRIGGER audit_entry_is_never_updated BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit entries are never updated'); END;
CREATE TRIGGER audit_entry_is_never_deleted BEFORE DELETE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END;

CREATE TABLE audit_note (
    sequence INTEGER PRIMARY KEY REFERENCES audit_entry (sequence),
    salt     BLOB NOT NULL,
    reason   TEXT,
    changes  TEXT
) STRICT;

CREATE TABLE audit_checkpoint (
    sequence  INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    signed_at INTEGER NOT NULL,
    key_id    TEXT NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (sequence, epoch, key_id, signed_at)
) STRICT;

CREATE TABLE outbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    project         TEXT NOT NULL REFERENCES project (key),
    topic           TEXT NOT NULL,
    payload         TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    dead            INTEGER NOT NULL,
    last_error      TEXT
) STRICT;

CREATE INDEX outbox_order ON outbox (dead, project, topic, id);
CREATE INDEX outbox_due ON outbox (dead, next_attempt_at, id);

CREATE TABLE token (
    selector        TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    project         TEXT NOT NULL REFERENCES project (key),
    name            TEXT NOT NULL,
    roles           TEXT NOT NULL,
    hash            BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    created_by_kind TEXT NOT NULL,
    created_by_id   TEXT NOT NULL,
    expires_at      INTEGER,
    last_used_at    INTEGER,
    disabled_at     INTEGER
) STRICT;

CREATE INDEX token_project ON token (project, created_at, selector);

CREATE TABLE person (
    id          TEXT PRIMARY KEY,
    email       TEXT UNIQUE,
    name        TEXT,
    password    TEXT,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

-- One flat table: deny by default, rights are the union of the rows.
CREATE TABLE role_grant (
    person_id TEXT NOT NULL REFERENCES person (id),
    role      TEXT NOT NULL,
    scope     TEXT NOT NULL,
    project   TEXT NOT NULL,
    tag       TEXT NOT NULL,
    PRIMARY KEY (person_id, role, scope, project, tag)
) STRICT;

CREATE TABLE sign_in (
    selector     TEXT PRIMARY KEY,
    hash         BLOB NOT NULL,
    person_id    TEXT NOT NULL REFERENCES person (id),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL
) STRICT;

CREATE INDEX sign_in_person ON sign_in (person_id);
CREATE INDEX sign_in_end ON sign_in (expires_at);

CREATE TABLE one_time_link (
    selector   TEXT PRIMARY KEY,
    hash       BLOB NOT NULL,
    person_id  TEXT NOT NULL REFERENCES person (id),
    purpose    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX one_time_link_person ON one_time_link (person_id);
CREATE INDEX one_time_link_end ON one_time_link (expires_at);

CREATE TABLE stream_record (
    project     TEXT NOT NULL REFERENCES project (key),
    stream      TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    payload     TEXT NOT NULL,
    digest      BLOB NOT NULL,
    source      TEXT,
    delivery_id TEXT,
    appended_at INTEGER NOT NULL,
    PRIMARY KEY (project, stream, sequence)
) STRICT;

CREATE UNIQUE INDEX stream_record_delivery ON stream_record (project, source, delivery_id)
    WHERE source IS NOT NULL;

CREATE TABLE named_value (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
