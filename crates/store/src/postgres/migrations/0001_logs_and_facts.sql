-- Names, texts and values are bytea: text can hold no NUL, and its order depends on the locale.

-- A room's history as a whole. Its row is locked while something is appended.
CREATE TABLE logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant bytea NOT NULL,
    room bytea NOT NULL,
    -- The bits of an unsigned number.
    epoch bigint NOT NULL,
    first bigint NOT NULL,
    head bigint NOT NULL,
    ordinal bigint NOT NULL,
    bytes bigint NOT NULL,
    UNIQUE (tenant, room)
) WITH (fillfactor = 50); -- each append updates the row in its page

-- Records from logs.first on. Older rows are what is left of trimmed records, without author and payload: they
-- remember ids and keys.
CREATE TABLE records (
    log bigint NOT NULL,
    off bigint NOT NULL,
    ordinal bigint NOT NULL,
    ts bigint NOT NULL,
    id uuid NOT NULL,
    key bytea,
    author bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (log, off)
);
CREATE UNIQUE INDEX records_id ON records (log, id);
CREATE UNIQUE INDEX records_key ON records (log, key) WHERE key IS NOT NULL;

CREATE TABLE facts (
    tenant bytea NOT NULL,
    space bytea NOT NULL,
    name bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (tenant, space, name)
);
