//! What SQLite says, as what a caller can do next.
//!
//! Diesel hands on SQLite's message and no code, so the messages are told apart; they are SQLite's own constants
//! (`sqlite3ErrStr`) and have not changed in a decade.

use celeriac_actors::ports::BrokerError;
use diesel::result::Error as DieselError;

/// Why a step failed.
#[derive(Debug)]
pub(super) enum StepError {
    /// The step decided so before it wrote anything: the steps beside it go on.
    Decided(BrokerError),
    /// SQLite failed: the whole transaction is undone.
    Sql(DieselError),
}

impl From<DieselError> for StepError {
    fn from(error: DieselError) -> Self {
        Self::Sql(error)
    }
}

impl From<BrokerError> for StepError {
    fn from(error: BrokerError) -> Self {
        Self::Decided(error)
    }
}

impl StepError {
    /// Returns the error as the port has it.
    pub(super) fn into_broker(self) -> BrokerError {
        match self {
            Self::Decided(error) => error,
            Self::Sql(error) => from_sql(&error),
        }
    }
}

/// What is the matter with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another connection holds the lock.
    Busy,
    /// It cannot be written: full, read-only, failing disk.
    Unwritable,
    /// It is no database, or a damaged one.
    Damaged,
    /// Something else.
    Other,
}

/// Tells what SQLite's message means.
pub(crate) fn trouble(message: &str) -> Trouble {
    let has = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if has(&["is locked", "schema has changed"]) {
        Trouble::Busy
    } else if has(&[
        "not a database",
        "malformed",
        "no such table",
        "no such column",
    ]) {
        Trouble::Damaged
    } else if has(&[
        "disk is full",
        "readonly database",
        "I/O error",
        "unable to open",
        "out of memory",
        "query aborted",
    ]) {
        Trouble::Unwritable
    } else {
        Trouble::Other
    }
}

/// Returns the error of a statement as the port has it.
pub(super) fn from_sql(error: &DieselError) -> BrokerError {
    let text = error.to_string();
    match trouble(&text) {
        Trouble::Busy => BrokerError::Unavailable(text),
        Trouble::Unwritable => BrokerError::Refused(text),
        Trouble::Damaged => BrokerError::Schema(format!(
            "{text}; stop every process that uses it and restore or remove the broker's data directory"
        )),
        Trouble::Other => BrokerError::Unavailable(text),
    }
}

/// Returns the error of a step that failed before it began: it certainly did not happen.
pub(super) fn before(error: BrokerError) -> BrokerError {
    match error {
        BrokerError::Unavailable(text) => BrokerError::Away(text),
        other => other,
    }
}

/// Returns whether another connection held the lock.
pub(super) fn is_busy(error: &DieselError) -> bool {
    trouble(&error.to_string()) == Trouble::Busy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_before_it_began_did_not_happen() {
        let locked = from_sql(&DieselError::QueryBuilderError("database is locked".into()));
        assert!(locked.is_unknown(), "a commit may have come first");
        let locked = before(locked);
        assert!(locked.is_outage() && !locked.is_unknown(), "{locked:?}");
        let full = BrokerError::Refused("full".to_owned());
        assert_eq!(before(full.clone()), full);
    }

    #[test]
    fn messages_mean_what_a_caller_can_do() {
        assert_eq!(trouble("database is locked"), Trouble::Busy);
        assert_eq!(trouble("database or disk is full"), Trouble::Unwritable);
        assert_eq!(
            trouble("attempt to write a readonly database"),
            Trouble::Unwritable
        );
        assert_eq!(trouble("disk I/O error"), Trouble::Unwritable);
        assert_eq!(trouble("file is not a database"), Trouble::Damaged);
        assert_eq!(
            trouble("database disk image is malformed"),
            Trouble::Damaged
        );
    }
}
