//! What the driver says, in the words of the port.
//!
//! SQLite's errors reach us as text only and PostgreSQL's mostly so, hence the tables of phrases. What they do not
//! know counts as unavailable: the outcome is then unknown, and every step may be repeated.

use celeriac_actors::ports::StoreError;
use diesel::result::{DatabaseErrorKind, Error};

/// Why a step failed inside this folder.
#[derive(Debug)]
pub(super) enum Fault {
    /// The driver's word.
    Driver(Error),
    /// Decided already.
    Store(StoreError),
}

/// Phrases of a store that does not take writes.
const REFUSED: [&str; 9] = [
    "readonly database",
    "read-only",
    "is full",
    "no space left",
    "disk quota",
    "could not extend file",
    "unable to open database file",
    "permission denied",
    "operation not permitted",
];

/// Phrases of a store that is not what this version expects.
const SCHEMA: [&str; 6] = [
    "no such table",
    "no such column",
    "has no column",
    "does not exist",
    "is not a database",
    "malformed",
];

/// Phrases of a conflict that the next try may not meet.
const PASSING: [&str; 4] = [
    "is locked",
    "deadlock detected",
    "could not serialize",
    "lock timeout",
];

impl Fault {
    /// Returns whether the same step may succeed at once on a fresh connection.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Driver(Error::DatabaseError(kind, details)) => {
                matches!(
                    kind,
                    DatabaseErrorKind::ClosedConnection
                        | DatabaseErrorKind::UnableToSendCommand
                        | DatabaseErrorKind::SerializationFailure
                ) || says(details.message(), &PASSING)
            }
            Self::Driver(Error::BrokenTransactionManager) => true,
            Self::Driver(_) | Self::Store(_) => false,
        }
    }

    /// Returns the port's word for it.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Driver(Error::DatabaseError(kind, details)) => {
                let text = details.message().to_owned();
                match kind {
                    DatabaseErrorKind::ReadOnlyTransaction => StoreError::Refused(text),
                    DatabaseErrorKind::UniqueViolation
                    | DatabaseErrorKind::NotNullViolation
                    | DatabaseErrorKind::CheckViolation
                    | DatabaseErrorKind::ForeignKeyViolation => StoreError::Schema(text),
                    _ => classify(text),
                }
            }
            Self::Driver(
                error @ (Error::DeserializationError(_) | Error::SerializationError(_)),
            ) => StoreError::Schema(error.to_string()),
            Self::Driver(error) => classify(error.to_string()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Returns the port's word for what a driver said in text.
pub(super) fn classify(text: String) -> StoreError {
    if says(&text, &REFUSED) {
        StoreError::Refused(text)
    } else if says(&text, &SCHEMA) {
        StoreError::Schema(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// Returns the port's word for why there is no connection.
pub(super) fn no_connection(text: String) -> StoreError {
    if says(&text, &REFUSED) {
        StoreError::Refused(text)
    } else if says(&text, &["is not a database"]) {
        StoreError::Schema(text)
    } else {
        StoreError::Unavailable(text)
    }
}

fn says(text: &str, phrases: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_of_the_drivers_are_known() {
        let of = |text: &str| classify(text.to_owned());
        let cases = [
            ("attempt to write a readonly database", "Refused"),
            ("database or disk is full", "Refused"),
            (
                "cannot execute INSERT in a read-only transaction",
                "Refused",
            ),
            ("no such table: dead_letters", "Schema"),
            ("relation \"dead_letters\" does not exist", "Schema"),
            ("database is locked", "Unavailable"),
            ("server closed the connection unexpectedly", "Unavailable"),
        ];
        for (text, variant) in cases {
            assert!(format!("{:?}", of(text)).starts_with(variant), "{text}");
        }
    }
}
