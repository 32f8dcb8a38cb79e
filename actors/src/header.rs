//! The fixed header of a stored task, version 1: forty bytes at fixed offsets, never compressed.
//!
//! A broker reads and patches it without decoding anything else (a Lua script included), so that a rescue can count
//! a redelivery on a task whose body nobody may be able to decode. Numbers are big-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | magic `0xCE`, which is never `{` |
//! | 1 | 1 | version, 1 |
//! | 2 | 1 | flags: bit 0 body is zstd, bit 1 final state is wanted |
//! | 3 | 1 | priority, 0 to 9 |
//! | 4 | 1 | deliveries: rescues so far |
//! | 5 | 1 | strikes: rescues that found it started while it was the only suspect |
//! | 6 | 2 | attempts that counted so far |
//! | 8 | 16 | id |
//! | 24 | 8 | enqueued at, milliseconds since 1970 |
//! | 32 | 8 | expires at, milliseconds since 1970; 0 is never |

use crate::ids::TaskId;
use crate::time::Timestamp;

/// The first byte of every frame.
pub const MAGIC: u8 = 0xCE;
/// The version this code writes.
pub const VERSION: u8 = 1;
/// The length of the header in bytes.
pub const HEADER_LEN: usize = 40;
/// The offset of the byte that holds the priority.
pub const PRIORITY_OFFSET: usize = 3;
/// The offset of the byte that counts redeliveries, for brokers that patch it in place.
pub const DELIVERIES_OFFSET: usize = 4;
/// The offset of the byte that counts strikes, for brokers that patch it in place.
pub const STRIKES_OFFSET: usize = 5;

const FLAG_ZSTD: u8 = 0b01;
const FLAG_WANT_OUTCOME: u8 = 0b10;

/// How urgent a task is within its queue: 9 is fetched before 0; equal ones in the order of their enqueueing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// The highest: fetched first.
    pub const HIGHEST: Self = Self(9);
    /// The one of tasks that say nothing: 5.
    pub const NORMAL: Self = Self(5);
    /// The lowest: fetched last.
    pub const LOWEST: Self = Self(0);

    /// Creates a priority of 0 (last) to 9 (first); `None` for another number.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    /// Returns the level, 0 to 9.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityError;

    fn try_from(level: u8) -> Result<Self, PriorityError> {
        Self::new(level).ok_or(PriorityError(level))
    }
}

/// A number is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a priority is 0 (last) to 9 (first), not {0}")]
pub struct PriorityError(pub u8);

/// The header of a stored task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the body is compressed with zstd.
    pub compressed: bool,
    /// Whether somebody waits for the outcome: the final state is then kept even where results are off.
    pub want_outcome: bool,
    /// The urgency within its queue.
    pub priority: Priority,
    /// How often it was rescued from a consumer that died. Stays at 255.
    pub deliveries: u8,
    /// How often a rescue found it started while it was the only suspect of its process. Stays at 255.
    pub strikes: u8,
    /// Attempts that counted so far: the next one is this plus one.
    pub attempts: u16,
    /// The task.
    pub id: TaskId,
    /// When the producer made it, by the producer's clock.
    pub enqueued_at: Timestamp,
    /// From when on it may no longer be started, if ever.
    pub expires_at: Option<Timestamp>,
}

/// Why bytes do not start with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer than forty bytes.
    #[error("a frame has at least {HEADER_LEN} bytes, found {0}")]
    Truncated(usize),
    /// The first byte is not the magic one.
    #[error("a frame starts with 0xCE, found {0:#04x}")]
    Magic(u8),
    /// Written by a newer Celeriac, or damaged.
    #[error("frame version {0} is not known here; the newest known is {VERSION}")]
    Version(u8),
    /// A flag nobody has defined yet, so its meaning cannot be honoured.
    #[error("frame flags {0:#010b} are not known here")]
    Flags(u8),
    /// A priority above nine.
    #[error("frame priority {0} is above 9")]
    Priority(u8),
}

impl Header {
    /// Writes the header at the front of `out`, which grows by forty bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.compressed { FLAG_ZSTD } else { 0 }
            | if self.want_outcome {
                FLAG_WANT_OUTCOME
            } else {
                0
            };
        out.extend_from_slice(&[MAGIC, VERSION, flags, self.priority.level()]);
        out.extend_from_slice(&[self.deliveries, self.strikes]);
        out.extend_from_slice(&self.attempts.to_be_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.enqueued_at.as_millis().to_be_bytes());
        let expires = self.expires_at.unwrap_or(Timestamp::EPOCH);
        out.extend_from_slice(&expires.as_millis().to_be_bytes());
    }

    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError`] when `bytes` is too short or was not written by a version known here.
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Truncated(bytes.len()));
        };
        let [magic, version, flags, priority, deliveries, strikes, ..] = *header;
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if flags & !(FLAG_ZSTD | FLAG_WANT_OUTCOME) != 0 {
            return Err(HeaderError::Flags(flags));
        }
        let expires = Timestamp::from_millis(u64::from_be_bytes(field(header, 32)));
        Ok(Self {
            compressed: flags & FLAG_ZSTD != 0,
            want_outcome: flags & FLAG_WANT_OUTCOME != 0,
            priority: Priority::new(priority).ok_or(HeaderError::Priority(priority))?,
            deliveries,
            strikes,
            attempts: u16::from_be_bytes(field(header, 6)),
            id: TaskId::from_bytes(field(header, 8)),
            enqueued_at: Timestamp::from_millis(u64::from_be_bytes(field(header, 24))),
            expires_at: (expires != Timestamp::EPOCH).then_some(expires),
        })
    }

    /// Returns whether a worker must run it alone under suspicion and write a start mark first: it was redelivered
    /// at least twice.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.deliveries >= 2
    }
}

/// Copies `N` bytes out of a header. The offsets are constants of this file, all within the forty bytes.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = Header> {
        (
            any::<[bool; 2]>(),
            0_u8..=9,
            any::<[u8; 2]>(),
            any::<u16>(),
            any::<[u8; 16]>(),
            any::<u64>(),
            proptest::option::of(1_u64..),
        )
            .prop_map(
                |(flags, priority, counts, attempts, id, enqueued, expires)| Header {
                    compressed: flags[0],
                    want_outcome: flags[1],
                    priority: Priority::new(priority).unwrap(),
                    deliveries: counts[0],
                    strikes: counts[1],
                    attempts,
                    id: TaskId::from_bytes(id),
                    enqueued_at: Timestamp::from_millis(enqueued),
                    expires_at: expires.map(Timestamp::from_millis),
                },
            )
    }

    proptest! {
        #[test]
        fn survives_its_bytes(header in any_header()) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(bytes.len(), HEADER_LEN);
            prop_assert_eq!(bytes[DELIVERIES_OFFSET], header.deliveries);
            prop_assert_eq!(bytes[STRIKES_OFFSET], header.strikes);
            prop_assert_eq!(Header::read(&bytes), Ok(header));
        }

        #[test]
        fn never_panics_on_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::read(&bytes);
        }
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let mut good = Vec::new();
        let id = TaskId::from_bytes([7; 16]);
        let at = Timestamp::from_millis(1);
        Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 0,
            strikes: 0,
            attempts: 0,
            id,
            enqueued_at: at,
            expires_at: None,
        }
        .write(&mut good);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Header::read(&bytes)
        };
        assert_eq!(Header::read(&good[..39]), Err(HeaderError::Truncated(39)));
        assert_eq!(with(0, b'{'), Err(HeaderError::Magic(b'{')));
        assert_eq!(with(1, 2), Err(HeaderError::Version(2)));
        assert_eq!(with(2, 0b100), Err(HeaderError::Flags(0b100)));
        assert_eq!(with(3, 10), Err(HeaderError::Priority(10)));
    }
}
