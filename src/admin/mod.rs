//! What operators look at and change, from the command line and over HTTP alike: reads of broker and store as documents, and
//! changes with their checks. Prints nothing and knows no protocol.

pub(crate) mod breakers;
pub(crate) mod census;
pub(crate) mod dead;
pub(crate) mod enqueue;
pub(crate) mod fault;
pub(crate) mod keeper;
pub(crate) mod letter;
pub(crate) mod overview;
pub(crate) mod patience;
pub(crate) mod queues;
pub(crate) mod revoke;
pub(crate) mod search;
pub(crate) mod task;
pub(crate) mod task_view;
pub(crate) mod tasks;
pub(crate) mod text;
pub(crate) mod values;
pub(crate) mod when;
pub(crate) mod workers;
