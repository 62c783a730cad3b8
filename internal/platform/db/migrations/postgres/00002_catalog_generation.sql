-- +goose Up

-- The catalogue's generation, by who reads it ('public'): raised, as the last statement, by every
-- transaction that changes what is read. The row's lock lasts until that commit, so generations
-- become visible in their order: whoever has read one has missed none before it. Without a row
-- it is 0. The origin is this database's own, so that no other one's generation is taken for it.
CREATE TABLE catalog_state (
    readers    text NOT NULL PRIMARY KEY,
    origin     uuid NOT NULL,
    generation bigint NOT NULL
);

-- The generation of a package's last public change; 0 means none since it was counted.
ALTER TABLE packages ADD COLUMN generation bigint NOT NULL DEFAULT 0;
CREATE INDEX packages_by_generation ON packages (generation);

-- A binary of level 1 changes packages without raising the generation: what others have cached
-- of them is then old until its time runs out.
INSERT INTO schema_levels (level, oldest_binary) VALUES (2, 1);
