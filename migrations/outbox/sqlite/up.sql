-- The transactional outbox: tasks that are enqueued in transactions of this database, until the relay has sent them.
CREATE TABLE celeriac_outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  -- For everybody to write: a name is enough.
  task TEXT NOT NULL,
  args TEXT,
  queue TEXT,
  priority INTEGER,
  due_at BIGINT,
  expires_at BIGINT,
  id TEXT,
  headers TEXT,
  -- For Celeriac alone.
  frame BLOB,
  frozen BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX celeriac_outbox_in_order ON celeriac_outbox (queue, seq);

-- For each queue the call that is being sent: the frozen tasks of the queue, under this channel and number and no other.
CREATE TABLE celeriac_outbox_calls (
  queue TEXT PRIMARY KEY,
  channel BLOB NOT NULL,
  number BIGINT NOT NULL,
  remember BIGINT NOT NULL
);

-- What cannot be sent, with why.
CREATE TABLE celeriac_outbox_rejected (
  seq INTEGER PRIMARY KEY,
  task TEXT NOT NULL,
  args TEXT,
  queue TEXT,
  priority INTEGER,
  due_at BIGINT,
  expires_at BIGINT,
  id TEXT,
  headers TEXT,
  frame BLOB,
  reason TEXT NOT NULL
);

-- Who relays, and until when nobody else does.
CREATE TABLE celeriac_outbox_relay (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  holder TEXT NOT NULL,
  until BIGINT NOT NULL
);
INSERT INTO celeriac_outbox_relay (id, holder, until) VALUES (1, '', 0);
