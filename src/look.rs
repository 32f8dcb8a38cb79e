//! Looking at a broker from outside: searching what it stores, finding one task, reading workers, and gathering why a task
//! does not run. What the command line and others who answer questions share; nothing here prints or changes anything.

pub(crate) mod explain;
pub(crate) mod hunt;
mod patience;
pub(crate) mod revoked;
pub(crate) mod search;
pub(crate) mod workers;

pub(crate) use self::patience::{Away, Patience};
