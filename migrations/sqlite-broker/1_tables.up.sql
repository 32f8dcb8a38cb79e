-- One row per queue: its switches, the ends of its ready list, what it holds, what it has counted.
CREATE TABLE queues (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    paused      INTEGER NOT NULL DEFAULT 0,
    revocations INTEGER NOT NULL DEFAULT 0, -- version
    swept_at    INTEGER NOT NULL DEFAULT 0, -- ms since boot
    swept_boot  TEXT    NOT NULL DEFAULT '',
    front       INTEGER NOT NULL,           -- next place before the first ready pack
    back        INTEGER NOT NULL,           -- next place behind the last ready pack
    serial      INTEGER NOT NULL DEFAULT 0, -- numbers batches in flight and waiting tasks
    ready       INTEGER NOT NULL DEFAULT 0,
    scheduled   INTEGER NOT NULL DEFAULT 0,
    retrying    INTEGER NOT NULL DEFAULT 0,
    active      INTEGER NOT NULL DEFAULT 0,
    dead_outbox INTEGER NOT NULL DEFAULT 0,
    enqueued    INTEGER NOT NULL DEFAULT 0,
    succeeded   INTEGER NOT NULL DEFAULT 0,
    dead        INTEGER NOT NULL DEFAULT 0,
    cancelled   INTEGER NOT NULL DEFAULT 0,
    expired     INTEGER NOT NULL DEFAULT 0,
    retried     INTEGER NOT NULL DEFAULT 0,
    released    INTEGER NOT NULL DEFAULT 0,
    rescued     INTEGER NOT NULL DEFAULT 0,
    revived     INTEGER NOT NULL DEFAULT 0,
    stale       INTEGER NOT NULL DEFAULT 0
);

-- Ready tasks in packs, in the order of fetching: key = queue << 48 | (9 - priority) << 44 | place.
CREATE TABLE ready (
    key  INTEGER PRIMARY KEY,
    pack BLOB NOT NULL
);

-- Tasks that wait for a time.
CREATE TABLE waiting (
    queue    INTEGER NOT NULL,
    due      INTEGER NOT NULL, -- ms since 1970
    serial   INTEGER NOT NULL,
    retrying INTEGER NOT NULL,
    frame    BLOB    NOT NULL,
    PRIMARY KEY (queue, due, serial)
) WITHOUT ROWID;

-- Consumer incarnations: living (0), closed with deliveries to take back (1), closed (2).
CREATE TABLE incarnations (
    id          INTEGER PRIMARY KEY,
    identity    BLOB    NOT NULL UNIQUE,
    queue       INTEGER NOT NULL,
    state       INTEGER NOT NULL DEFAULT 0,
    worker      TEXT    NOT NULL,
    lane        INTEGER NOT NULL,
    guarded     INTEGER NOT NULL, -- its process holds a lock file
    lease       INTEGER NOT NULL, -- ms
    deadline    INTEGER NOT NULL, -- ms since boot
    boot        TEXT    NOT NULL,
    closed_at   INTEGER NOT NULL DEFAULT 0,  -- ms since 1970
    call        INTEGER NOT NULL DEFAULT 0,  -- the last numbered call and its reply:
    first_tag   INTEGER NOT NULL DEFAULT 0,
    handed      INTEGER NOT NULL DEFAULT 0,
    more        INTEGER NOT NULL DEFAULT 0,
    replied_at  INTEGER NOT NULL DEFAULT 0,
    revocations INTEGER NOT NULL DEFAULT 0,
    stale       BLOB    NOT NULL DEFAULT x''
);
CREATE INDEX incarnations_by_queue ON incarnations (queue, state);
CREATE INDEX incarnations_closed ON incarnations (closed_at) WHERE state = 2;

-- What one call handed out, and which of it is still held.
CREATE TABLE batches (
    incarnation INTEGER NOT NULL,
    first_tag   INTEGER NOT NULL,
    tags        INTEGER NOT NULL,
    held        BLOB    NOT NULL, -- one bit per tag
    started     BLOB    NOT NULL, -- one bit per tag: start marks
    pack        INTEGER NOT NULL, -- the frames: packs.id
    PRIMARY KEY (incarnation, first_tag)
) WITHOUT ROWID;
CREATE TABLE packs (
    id   INTEGER PRIMARY KEY, -- queue << 48 | serial
    pack BLOB NOT NULL
);

-- The last numbered call of each producer's channel.
CREATE TABLE channels (
    identity  BLOB    PRIMARY KEY,
    queue     INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    reply     INTEGER NOT NULL, -- ms since 1970
    forget_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX channels_by_end ON channels (forget_at);

-- Dead tasks that the store does not have yet.
CREATE TABLE dead_outbox (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    queue     INTEGER NOT NULL,
    task      BLOB    NOT NULL,
    reason    TEXT    NOT NULL,
    note      TEXT    NOT NULL,
    frame     BLOB    NOT NULL,
    buried_at INTEGER NOT NULL,
    worker    TEXT    NOT NULL
);

-- What is kept of tasks that ended.
CREATE TABLE results (
    queue     INTEGER NOT NULL,
    task      BLOB    NOT NULL,
    state     TEXT    NOT NULL,
    body      BLOB    NOT NULL,
    attempts  INTEGER NOT NULL,
    ttl       INTEGER NOT NULL,
    forget_at INTEGER NOT NULL,
    PRIMARY KEY (queue, task)
) WITHOUT ROWID;
CREATE INDEX results_by_end ON results (forget_at);

CREATE TABLE revocations (
    queue     INTEGER NOT NULL,
    task      BLOB    NOT NULL,
    forget_at INTEGER NOT NULL,
    PRIMARY KEY (queue, task)
) WITHOUT ROWID;
CREATE INDEX revocations_by_end ON revocations (forget_at, queue);

CREATE TABLE workers (
    name    TEXT PRIMARY KEY,
    record  TEXT    NOT NULL, -- JSON
    beat    INTEGER NOT NULL, -- ms
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;

-- A value that ended is emptied and its version kept, so that nobody takes a later one for it.
CREATE TABLE shared (
    key       TEXT PRIMARY KEY,
    version   INTEGER NOT NULL,
    value     BLOB    NOT NULL,
    forget_at INTEGER NOT NULL
) WITHOUT ROWID;
