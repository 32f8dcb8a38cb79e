//! The ports: what the domain asks of a broker, of its results, and of the store. Adapters implement them.

mod broker;
mod clusters;
mod inspect;
mod isolation;
mod snapshots;
mod spool;
mod store;

pub use broker::{
    Broker, BrokerError, Capabilities, Durability, EnqueueCall, EnqueueKind, MAX_DELIVERIES,
    MAX_REVOCATIONS, MAX_STRIKES, NewTask, When,
};
pub use clusters::{ClusterCursor, ClusterPage, DeadCluster, StatusCounts};
pub use inspect::{
    Counters, Cursor, QueueStatus, ScanPage, ScanRequest, SharedValue, StoredTask, Wake,
    WorkerRecord, id_of,
};
pub use isolation::{
    ChildStatus, Death, IsolatedEnd, Isolation, KILL_GRACE, LAST_LINES, Place as ChildPlace, Stop,
};
pub use snapshots::{Minute, QueueSnapshot, SnapshotRange, Snapshots, Span, TaskSnapshot};
pub use spool::{Sent, Spool, SpoolError};
pub use store::{
    DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadPage, DeadStats, DeadStatus, StatsRow,
    StoreError, message,
};
