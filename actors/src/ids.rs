//! Names and identities: checked when they are made, so that nothing behind this file checks them again.
//!
//! Names are shared text (`Arc<str>`): cloning one never copies it. Identities are random, never derived from a
//! host name or a process id, so two incarnations of one worker can never be taken for each other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("a {what} must not be empty")]
    Empty {
        /// Which kind of name was asked for.
        what: &'static str,
    },
    /// The text is longer than the kind of name allows.
    #[error("a {what} has at most {max} bytes, this one has {len}")]
    TooLong {
        /// Which kind of name was asked for.
        what: &'static str,
        /// The longest allowed, in bytes.
        max: usize,
        /// The length found, in bytes.
        len: usize,
    },
    /// The text has a character outside `A-Z a-z 0-9 _ - . :`.
    #[error("a {what} consists of letters, digits and `_-.:`, found {found:?}")]
    Character {
        /// Which kind of name was asked for.
        what: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            what,
            max,
            len: text.len(),
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(NameError::Character { what, found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The longest allowed, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Creates a name from text.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long, or has a character outside letters, digits and `_-.:`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                check($what, text, Self::MAX_LEN)?;
                Ok(Self(Arc::from(text)))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The name of a queue: 1 to 64 bytes of letters, digits and `_-.:`.
    QueueName, "queue name", 64
}

name! {
    /// The name of a kind of task, such as `billing.process_subscription`: 1 to 200 bytes of letters, digits and `_-.:`.
    TaskName, "task name", 200
}

name! {
    /// The name of a circuit breaker: of a kind of task, or of something that tasks depend on, such as `stripe`. 1 to 200
    /// bytes of letters, digits and `_-.:`.
    BreakerName, "breaker name", 200
}

name! {
    /// A worker process: host, process id and a random part, such as `web-1:4711:9f3a01c2`.
    WorkerId, "worker id", 160
}

macro_rules! random_id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Uuid);

        impl $type {
            /// Creates an identity from 128 bits.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Returns the 128 bits.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Returns the identity as a UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $type {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.0)
            }
        }

        impl FromStr for $type {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

random_id! {
    /// One task: a UUID, version 7 when we make it (sorted by creation), any when the caller gives it.
    TaskId
}

random_id! {
    /// One life of one queue consumer: 128 random bits. The fence against settlements of a life that was closed.
    IncarnationId
}

random_id! {
    /// One numbered line of enqueue calls of one producer: 128 random bits.
    ChannelId
}

impl TaskId {
    /// Creates an id that sorts by the time of its making (UUID version 7).
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl IncarnationId {
    /// Creates a random identity.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl ChannelId {
    /// Creates a random identity.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// One burial of one task: the same task buried twice (after a revival) has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BurialId {
    /// The task that was buried; for bytes without a readable header, an id the broker made up.
    pub task: TaskId,
    /// The broker's own running number of burials, unique within its data.
    pub number: u64,
}

impl fmt::Display for BurialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.task, self.number)
    }
}

impl FromStr for BurialId {
    type Err = BurialIdError;

    fn from_str(text: &str) -> Result<Self, BurialIdError> {
        let parts = text.rsplit_once('-').ok_or(BurialIdError)?;
        let task = Uuid::parse_str(parts.0).map_err(|_| BurialIdError)?;
        let number = parts.1.parse().map_err(|_| BurialIdError)?;
        Ok(Self {
            task: TaskId(task),
            number,
        })
    }
}

/// A text is not `TASK_ID-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id has the form TASK_ID-NUMBER")]
pub struct BurialIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_break_a_key_or_a_log_line() {
        assert_eq!(
            QueueName::new(""),
            Err(NameError::Empty { what: "queue name" })
        );
        assert!(matches!(
            QueueName::new("a b"),
            Err(NameError::Character { found: ' ', .. })
        ));
        assert!(matches!(
            QueueName::new("a{b}"),
            Err(NameError::Character { found: '{', .. })
        ));
        assert!(matches!(
            TaskName::new("a\nb"),
            Err(NameError::Character { found: '\n', .. })
        ));
        assert!(matches!(
            QueueName::new("q".repeat(65)),
            Err(NameError::TooLong { len: 65, .. })
        ));
        assert!(QueueName::new("q".repeat(64)).is_ok());
    }

    #[test]
    fn a_burial_id_survives_its_text() {
        let id = BurialId {
            task: TaskId::fresh(),
            number: 7,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("7".parse::<BurialId>(), Err(BurialIdError));
    }
}
