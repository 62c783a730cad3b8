-- +goose Up

-- Addresses from which a person has signed in, as keyed fingerprints.
CREATE TABLE known_addresses (
    org_id       BLOB NOT NULL,
    user_id      BLOB NOT NULL,
    address_hmac BLOB NOT NULL,
    last_at      INTEGER NOT NULL,
    PRIMARY KEY (org_id, user_id, address_hmac),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, user_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX known_addresses_by_time ON known_addresses (last_at);

INSERT INTO schema_levels (level, oldest_binary) VALUES (3, 1);
