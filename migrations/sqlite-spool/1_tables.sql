-- The spool: tasks that wait for a broker, in order, and the calls under which they are relayed.
CREATE TABLE queues (
  name TEXT PRIMARY KEY,
  tasks INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) WITHOUT ROWID;

-- `due_kind` 0: at once; 1: `due` ms after the broker carries it out; 2: at `due`, ms since 1970. `since`: when it came.
CREATE TABLE tasks (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  due_kind INTEGER NOT NULL,
  due INTEGER NOT NULL,
  since INTEGER NOT NULL,
  frame BLOB NOT NULL
);
CREATE INDEX tasks_in_order ON tasks (queue, seq);

-- A frozen call: the tasks of `queue` from `first` to `last`, to be sent under this channel and number and no other.
CREATE TABLE calls (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  channel BLOB NOT NULL,
  number INTEGER NOT NULL,
  remember INTEGER NOT NULL
);
CREATE INDEX calls_in_order ON calls (queue, first);

-- What the broker rejects for good, with why.
CREATE TABLE rejected (
  seq INTEGER PRIMARY KEY,
  queue TEXT NOT NULL,
  due_kind INTEGER NOT NULL,
  due INTEGER NOT NULL,
  since INTEGER NOT NULL,
  frame BLOB NOT NULL,
  reason TEXT NOT NULL
);
