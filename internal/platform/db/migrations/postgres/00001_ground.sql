-- +goose Up

-- Which binaries may use a database at this level: those that know level oldest_binary or later.
CREATE TABLE schema_levels (
    level         bigint NOT NULL PRIMARY KEY,
    oldest_binary bigint NOT NULL
);
INSERT INTO schema_levels (level, oldest_binary) VALUES (1, 1);

-- Directory tables: what must be unique for all organizations, keyed by the unique thing.
CREATE TABLE directory_handles (
    handle     text NOT NULL PRIMARY KEY,
    org_id     uuid NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE directory_emails (
    email_hmac bytea NOT NULL PRIMARY KEY,
    org_id     uuid NOT NULL,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE directory_memberships (
    user_id    uuid NOT NULL,
    org_id     uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, org_id)
);

-- Tenant tables: org_id first in every key.
CREATE TABLE organizations (
    org_id     uuid NOT NULL PRIMARY KEY,
    handle     text NOT NULL,
    kind       text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE data_keys (
    org_id     uuid NOT NULL,
    subject_id uuid NOT NULL,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, subject_id)
);
CREATE TABLE users (
    org_id         uuid NOT NULL,
    user_id        uuid NOT NULL,
    username       text NOT NULL,
    email_sealed   bytea NOT NULL,
    profile_sealed bytea,
    password_hash  text NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
CREATE TABLE members (
    org_id     uuid NOT NULL REFERENCES organizations (org_id),
    user_id    uuid NOT NULL,
    role       text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
CREATE TABLE sessions (
    org_id       uuid NOT NULL,
    session_id   uuid NOT NULL,
    user_id      uuid NOT NULL,
    generation   bigint NOT NULL,
    token_hash   bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    PRIMARY KEY (org_id, session_id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, user_id)
);
CREATE INDEX sessions_by_user ON sessions (org_id, user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE audit_heads (
    org_id uuid NOT NULL PRIMARY KEY,
    seq    bigint NOT NULL,
    hash   bytea NOT NULL
);
CREATE TABLE audit_events (
    org_id     uuid NOT NULL,
    id         uuid NOT NULL,
    created_at timestamptz NOT NULL,
    seq        bigint NOT NULL,
    actor_id   uuid,
    action     text NOT NULL,
    subject    text NOT NULL,
    data       bytea,
    prev_hash  bytea NOT NULL,
    hash       bytea NOT NULL,
    PRIMARY KEY (org_id, id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE audit_events_default PARTITION OF audit_events DEFAULT;
CREATE INDEX audit_events_by_seq ON audit_events (org_id, seq);

CREATE TABLE idempotency_keys (
    org_id      uuid NOT NULL,
    actor_id    uuid NOT NULL,
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    resource_id uuid NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, actor_id, key_hash)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

CREATE TABLE executions (
    org_id              uuid NOT NULL,
    id                  uuid NOT NULL,
    created_at          timestamptz NOT NULL,
    actor_id            uuid NOT NULL,
    package_id          uuid NOT NULL,
    version_id          uuid NOT NULL,
    package             text NOT NULL,
    version             text NOT NULL,
    digest              text NOT NULL,
    runtime             text NOT NULL,
    state               text NOT NULL,
    input               bytea NOT NULL,
    output              bytea,
    metadata            bytea,
    error_code          text,
    error_message       bytea,
    error_retryable     boolean NOT NULL DEFAULT FALSE,
    usage               text NOT NULL DEFAULT '{}',
    max_cost            bigint NOT NULL,
    held                bigint NOT NULL DEFAULT 0,
    charged             bigint NOT NULL DEFAULT 0,
    timeout_ms          bigint NOT NULL,
    queue_until         timestamptz NOT NULL,
    started_at          timestamptz,
    deadline            timestamptz,
    finished_at         timestamptz,
    cancel_requested_at timestamptz,
    cancel_at           timestamptz,
    last_seq            bigint NOT NULL,
    lease_owner         uuid,
    lease_until         timestamptz,
    lease_epoch         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE executions_default PARTITION OF executions DEFAULT;
CREATE INDEX executions_by_time ON executions (org_id, created_at, id);
CREATE INDEX executions_queued ON executions (org_id, created_at, id) WHERE state = 'queued';
CREATE INDEX executions_queue_end ON executions (queue_until) WHERE state = 'queued';
CREATE INDEX executions_leased ON executions (lease_until) WHERE state = 'running';

CREATE TABLE execution_events (
    org_id       uuid NOT NULL,
    execution_id uuid NOT NULL,
    seq          bigint NOT NULL,
    execution_at timestamptz NOT NULL,
    type         text NOT NULL,
    data         bytea,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (org_id, execution_id, seq, execution_at)
) PARTITION BY RANGE (execution_at);
CREATE TABLE execution_events_default PARTITION OF execution_events DEFAULT;

-- Global tables: the catalogue, without foreign keys to tenants.
CREATE TABLE packages (
    id                uuid NOT NULL PRIMARY KEY,
    publisher_id      uuid NOT NULL,
    publisher         text NOT NULL,
    name              text NOT NULL,
    visibility        text NOT NULL,
    title             text NOT NULL,
    summary           text NOT NULL,
    runtime           text NOT NULL,
    pricing           text NOT NULL,
    latest_version_id uuid,
    latest_version    text,
    latest_digest     text,
    latest_at         timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    UNIQUE (publisher, name)
);
CREATE INDEX packages_by_visibility ON packages (visibility, created_at, id);
CREATE INDEX packages_by_publisher ON packages (publisher_id, created_at, id);

CREATE TABLE versions (
    id         uuid NOT NULL PRIMARY KEY,
    package_id uuid NOT NULL REFERENCES packages (id),
    version    text NOT NULL,
    digest     text NOT NULL,
    manifest   text NOT NULL,
    readme     text NOT NULL,
    size       bigint NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (package_id, version)
);
CREATE INDEX versions_by_time ON versions (package_id, created_at, id);

CREATE TABLE package_labels (
    package_id uuid NOT NULL REFERENCES packages (id),
    kind       text NOT NULL,
    label      text NOT NULL,
    PRIMARY KEY (package_id, kind, label)
);
CREATE INDEX package_labels_by_label ON package_labels (kind, label, package_id);

CREATE TABLE blobs (
    digest       text NOT NULL PRIMARY KEY,
    content_type text NOT NULL,
    size         bigint NOT NULL,
    data         bytea NOT NULL,
    created_at   timestamptz NOT NULL
);
