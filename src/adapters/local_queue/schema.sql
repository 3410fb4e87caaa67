-- The embedded queue, schema version 1.

-- Jobs, from their arrival to their outcome. A finished job keeps its row without its message, so that the same request
-- isn't sent again and the result files can be written from here.
CREATE TABLE jobs (
    seq           INTEGER PRIMARY KEY,
    key           BLOB NOT NULL UNIQUE,       -- idempotency key, 16 bytes
    content       BLOB,                       -- key derived from its content; NULL if that is `key`
    lane          INTEGER NOT NULL,           -- 0 signup, 1 bulk
    state         INTEGER NOT NULL,           -- 0 waiting or in progress, 1 done, 2 dead letter
    due_ms        INTEGER NOT NULL,           -- 0: fresh, taken in the order of seq; else the earliest time of the next attempt
    attempts      INTEGER NOT NULL DEFAULT 0,
    enqueued_ms   INTEGER NOT NULL,
    first_sent_ms INTEGER,                    -- intent: a request may have been sent since then
    last_sent_ms  INTEGER,
    body          TEXT,                       -- job message; NULL once done
    finished      INTEGER,                    -- 1, 2, 3... in the order of finishing
    outcome       INTEGER,                    -- 0 created, 1 existing, 2 rejected, 3 failed
    event         TEXT                        -- as published
);
CREATE INDEX jobs_fresh ON jobs (lane, seq) WHERE state = 0 AND due_ms = 0;
CREATE INDEX jobs_due ON jobs (lane, due_ms) WHERE state = 0 AND due_ms > 0;
CREATE UNIQUE INDEX jobs_finished ON jobs (finished, outcome) WHERE finished IS NOT NULL;

-- The API that the jobs were sent to: base URL, or `sandbox`. A queue serves one API.
CREATE TABLE target (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    api TEXT NOT NULL
);

-- Imported files, and files whose import is incomplete.
CREATE TABLE batches (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        INTEGER NOT NULL,             -- 0 of a run, 1 of an import, 2 of an index; a queue has one kind
    batch_id    TEXT NOT NULL,
    fingerprint BLOB NOT NULL,                -- SHA-256 of the file
    file        TEXT NOT NULL,
    complete    INTEGER NOT NULL DEFAULT 0
);

-- The job of each row of a file.
CREATE TABLE rows (
    batch  INTEGER NOT NULL,
    record INTEGER NOT NULL,                  -- 1 is the first below the header
    line   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    repeat INTEGER NOT NULL,                  -- 1: the same request as an earlier row of the file
    PRIMARY KEY (batch, record)
) WITHOUT ROWID;

-- Emails of a file during its import, to find rows that contradict each other.
CREATE TABLE emails (
    batch INTEGER NOT NULL,
    email BLOB NOT NULL,                      -- first 16 bytes of SHA-256
    line  INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (batch, email)
) WITHOUT ROWID;

-- Progress of each events file.
CREATE TABLE exports (
    file     TEXT PRIMARY KEY,
    finished INTEGER NOT NULL,                -- last job that is in the file
    bytes    INTEGER NOT NULL                 -- length of the file then
) WITHOUT ROWID;
