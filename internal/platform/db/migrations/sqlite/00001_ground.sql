-- +goose Up

-- Which binaries may use a database at this level: those that know level oldest_binary or later.
CREATE TABLE schema_levels (
    level         INTEGER NOT NULL PRIMARY KEY,
    oldest_binary INTEGER NOT NULL
) STRICT;
INSERT INTO schema_levels (level, oldest_binary) VALUES (1, 1);

-- Directory tables: what must be unique for all organizations, keyed by the unique thing.
CREATE TABLE directory_handles (
    handle     TEXT NOT NULL PRIMARY KEY,
    org_id     BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE directory_emails (
    email_hmac BLOB NOT NULL PRIMARY KEY,
    org_id     BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE directory_memberships (
    user_id    BLOB NOT NULL,
    org_id     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, org_id)
) STRICT;

-- Tenant tables: org_id first in every key.
CREATE TABLE organizations (
    org_id     BLOB NOT NULL PRIMARY KEY,
    handle     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE data_keys (
    org_id     BLOB NOT NULL,
    subject_id BLOB NOT NULL,
    wrapped    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, subject_id)
) STRICT;
CREATE TABLE users (
    org_id         BLOB NOT NULL,
    user_id        BLOB NOT NULL,
    username       TEXT NOT NULL,
    email_sealed   BLOB NOT NULL,
    profile_sealed BLOB,
    password_hash  TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    PRIMARY KEY (org_id, user_id)
) STRICT;
CREATE TABLE members (
    org_id     BLOB NOT NULL REFERENCES organizations (org_id),
    user_id    BLOB NOT NULL,
    role       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, user_id)
) STRICT;
CREATE TABLE sessions (
    org_id       BLOB NOT NULL,
    session_id   BLOB NOT NULL,
    user_id      BLOB NOT NULL,
    generation   INTEGER NOT NULL,
    token_hash   BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    revoked_at   INTEGER,
    PRIMARY KEY (org_id, session_id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, user_id)
) STRICT;
CREATE INDEX sessions_by_user ON sessions (org_id, user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE audit_heads (
    org_id BLOB NOT NULL PRIMARY KEY,
    seq    INTEGER NOT NULL,
    hash   BLOB NOT NULL
) STRICT;
CREATE TABLE audit_events (
    org_id     BLOB NOT NULL,
    id         BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    actor_id   BLOB,
    action     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    data       BLOB,
    prev_hash  BLOB NOT NULL,
    hash       BLOB NOT NULL,
    PRIMARY KEY (org_id, id, created_at)
) STRICT;
CREATE INDEX audit_events_by_seq ON audit_events (org_id, seq);

CREATE TABLE idempotency_keys (
    org_id      BLOB NOT NULL,
    actor_id    BLOB NOT NULL,
    key_hash    BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    resource_id BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (org_id, actor_id, key_hash)
) STRICT;
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

CREATE TABLE executions (
    org_id              BLOB NOT NULL,
    id                  BLOB NOT NULL,
    created_at          INTEGER NOT NULL,
    actor_id            BLOB NOT NULL,
    package_id          BLOB NOT NULL,
    version_id          BLOB NOT NULL,
    package             TEXT NOT NULL,
    version             TEXT NOT NULL,
    digest              TEXT NOT NULL,
    runtime             TEXT NOT NULL,
    state               TEXT NOT NULL,
    input               BLOB NOT NULL,
    output              BLOB,
    metadata            BLOB,
    error_code          TEXT,
    error_message       BLOB,
    error_retryable     INTEGER NOT NULL DEFAULT FALSE,
    usage               TEXT NOT NULL DEFAULT '{}',
    max_cost            INTEGER NOT NULL,
    held                INTEGER NOT NULL DEFAULT 0,
    charged             INTEGER NOT NULL DEFAULT 0,
    timeout_ms          INTEGER NOT NULL,
    queue_until         INTEGER NOT NULL,
    started_at          INTEGER,
    deadline            INTEGER,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    cancel_at           INTEGER,
    last_seq            INTEGER NOT NULL,
    lease_owner         BLOB,
    lease_until         INTEGER,
    lease_epoch         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, id, created_at)
) STRICT;
CREATE INDEX executions_by_time ON executions (org_id, created_at, id);
CREATE INDEX executions_queued ON executions (org_id, created_at, id) WHERE state = 'queued';
CREATE INDEX executions_queue_end ON executions (queue_until) WHERE state = 'queued';
CREATE INDEX executions_leased ON executions (lease_until) WHERE state = 'running';

CREATE TABLE execution_events (
    org_id       BLOB NOT NULL,
    execution_id BLOB NOT NULL,
    seq          INTEGER NOT NULL,
    execution_at INTEGER NOT NULL,
    type         TEXT NOT NULL,
    data         BLOB,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (org_id, execution_id, seq, execution_at)
) STRICT;

-- Global tables: the catalogue, without foreign keys to tenants.
CREATE TABLE packages (
    id                BLOB NOT NULL PRIMARY KEY,
    publisher_id      BLOB NOT NULL,
    publisher         TEXT NOT NULL,
    name              TEXT NOT NULL,
    visibility        TEXT NOT NULL,
    title             TEXT NOT NULL,
    summary           TEXT NOT NULL,
    runtime           TEXT NOT NULL,
    pricing           TEXT NOT NULL,
    latest_version_id BLOB,
    latest_version    TEXT,
    latest_digest     TEXT,
    latest_at         INTEGER,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    UNIQUE (publisher, name)
) STRICT;
CREATE INDEX packages_by_visibility ON packages (visibility, created_at, id);
CREATE INDEX packages_by_publisher ON packages (publisher_id, created_at, id);

CREATE TABLE versions (
    id         BLOB NOT NULL PRIMARY KEY,
    package_id BLOB NOT NULL REFERENCES packages (id),
    version    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    readme     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (package_id, version)
) STRICT;
CREATE INDEX versions_by_time ON versions (package_id, created_at, id);

CREATE TABLE package_labels (
    package_id BLOB NOT NULL REFERENCES packages (id),
    kind       TEXT NOT NULL,
    label      TEXT NOT NULL,
    PRIMARY KEY (package_id, kind, label)
) STRICT;
CREATE INDEX package_labels_by_label ON package_labels (kind, label, package_id);

CREATE TABLE blobs (
    digest       TEXT NOT NULL PRIMARY KEY,
    content_type TEXT NOT NULL,
    size         INTEGER NOT NULL,
    data         BLOB NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;
