//! The native frame: how one task is stored, and the bounds within which foreign bytes are read.
//!
//! `header (40 bytes) + body`, where the body is a MessagePack map (the [`Envelope`]) directly followed by the
//! MessagePack of the arguments, as one zstd frame when that is shorter. Structs are maps and types know that they are
//! written for people (`human_readable`), so that arguments given as JSON (a UUID, a time) decode the same.
//!
//! Reading is bounded by [`FrameLimits`] before anything is allocated: the frame's size, its size decompressed, and
//! how deep values nest. What does not fit is a [`FrameError`], which the consumer turns into a dead letter with the
//! raw bytes; it is never a panic.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::Envelope;
use crate::header::{HEADER_LEN, Header, HeaderError};

/// Bodies of up to this many bytes are never compressed: zstd's own frame would eat the gain.
pub const COMPRESS_ABOVE: usize = 1_024;

/// A body starts with a map of at most this many levels; arguments nest within [`FrameLimits::max_depth`].
const ENVELOPE_DEPTH: usize = 16;

/// How much a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The largest stored frame, in bytes. Default 1 MiB.
    pub max_frame: usize,
    /// The largest body after decompression, in bytes. Default 16 MiB.
    pub max_body: usize,
    /// How deep arguments may nest. Default 64.
    pub max_depth: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            max_frame: 1 << 20,
            max_body: 16 << 20,
            max_depth: 64,
        }
    }
}

/// Why bytes are no frame, or a task does not fit into one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The stored frame is larger than allowed.
    #[error("the frame has {len} bytes, allowed are {max}")]
    TooLarge {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The body is larger than allowed once decompressed.
    #[error("the body has more than {max} bytes when decompressed")]
    BodyTooLarge {
        /// Bytes allowed.
        max: usize,
    },
    /// The compressed body is damaged.
    #[error("the body does not decompress: {0}")]
    Zstd(String),
    /// The envelope does not decode.
    #[error("the envelope does not decode: {0}")]
    Envelope(String),
    /// The arguments do not decode as what the task expects.
    #[error("the arguments do not decode: {0}")]
    Arguments(String),
    /// A value cannot be written as MessagePack.
    #[error("a value cannot be encoded: {0}")]
    Encode(String),
}

impl FrameError {
    /// Returns whether size is the reason, as opposed to content.
    #[must_use]
    pub const fn is_size(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::BodyTooLarge { .. })
    }
}

/// A decoded frame: the envelope, and the arguments still as MessagePack.
///
/// Borrows the frame unless its body had to be decompressed.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened<'a> {
    /// What the task says about itself.
    pub envelope: Envelope,
    body: Cow<'a, [u8]>,
    args_at: usize,
}

impl Opened<'_> {
    /// Returns the arguments as MessagePack.
    #[must_use]
    pub fn args(&self) -> &[u8] {
        &self.body[self.args_at..]
    }

    /// Takes it apart for keeping beside the frame: the envelope, the decompressed body when there is one, and where
    /// in it (else in the frame) the arguments start.
    #[must_use]
    pub fn into_parts(self) -> (Envelope, Option<Vec<u8>>, usize) {
        match self.body {
            Cow::Borrowed(_) => (self.envelope, None, HEADER_LEN + self.args_at),
            Cow::Owned(body) => (self.envelope, Some(body), self.args_at),
        }
    }
}

/// Encodes a task as one frame. `header.compressed` is set by the outcome.
///
/// # Errors
/// [`FrameError::Encode`] when the envelope cannot be written, [`FrameError::TooLarge`] when the frame would exceed
/// `limits`, [`FrameError::BodyTooLarge`] when its body would.
pub fn encode(
    mut header: Header,
    envelope: &Envelope,
    args: &[u8],
    limits: &FrameLimits,
) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::with_capacity(HEADER_LEN + 48 + args.len());
    header.compressed = false;
    header.write(&mut frame);
    write_value(&mut frame, envelope)?;
    frame.extend_from_slice(args);
    let body_len = frame.len() - HEADER_LEN;
    if body_len > limits.max_body {
        return Err(FrameError::BodyTooLarge {
            max: limits.max_body,
        });
    }
    if body_len > COMPRESS_ABOVE
        && let Some(shorter) = compress(&frame[HEADER_LEN..])
    {
        frame.clear();
        header.compressed = true;
        header.write(&mut frame);
        frame.extend_from_slice(&shorter);
    }
    if frame.len() > limits.max_frame {
        return Err(FrameError::TooLarge {
            len: frame.len(),
            max: limits.max_frame,
        });
    }
    Ok(frame)
}

/// Decodes the body of a frame whose header was read.
///
/// # Errors
/// [`FrameError`] when the frame exceeds `limits` or its body is damaged.
pub fn open<'a>(
    header: &Header,
    frame: &'a [u8],
    limits: &FrameLimits,
) -> Result<Opened<'a>, FrameError> {
    if frame.len() > limits.max_frame {
        return Err(FrameError::TooLarge {
            len: frame.len(),
            max: limits.max_frame,
        });
    }
    let stored = frame.get(HEADER_LEN..).unwrap_or_default();
    let body = if header.compressed {
        Cow::Owned(decompress(stored, limits)?)
    } else {
        Cow::Borrowed(stored)
    };
    if body.len() > limits.max_body {
        return Err(FrameError::BodyTooLarge {
            max: limits.max_body,
        });
    }
    let (envelope, args_at) = read_prefix(&body, ENVELOPE_DEPTH)
        .map_err(|error| FrameError::Envelope(error.to_string()))?;
    Ok(Opened {
        envelope,
        body,
        args_at,
    })
}

/// Encodes a value in the form of arguments and results: MessagePack, structs as maps, types written for people.
///
/// # Errors
/// [`FrameError::Encode`] when the value's own `Serialize` fails or it has a map or list of unknown length.
pub fn encode_value<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::with_capacity(64);
    write_value(&mut out, value)?;
    Ok(out)
}

/// Decodes a value in the form of arguments and results.
///
/// # Errors
/// [`FrameError::Arguments`] when the bytes are no `T`, nest deeper than `limits` allow, or go on behind it.
pub fn decode_value<T: DeserializeOwned>(
    bytes: &[u8],
    limits: &FrameLimits,
) -> Result<T, FrameError> {
    let (value, end) = read_prefix(bytes, limits.max_depth)
        .map_err(|error| FrameError::Arguments(error.to_string()))?;
    if end != bytes.len() {
        return Err(FrameError::Arguments(format!(
            "{} bytes follow the value",
            bytes.len() - end
        )));
    }
    Ok(value)
}

fn write_value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), FrameError> {
    let mut serializer = rmp_serde::Serializer::new(out)
        .with_struct_map()
        .with_human_readable();
    value
        .serialize(&mut serializer)
        .map_err(|error| FrameError::Encode(error.to_string()))
}

/// Reads one value from the front of `bytes`; returns it with the offset behind it.
fn read_prefix<T: DeserializeOwned>(
    bytes: &[u8],
    max_depth: usize,
) -> Result<(T, usize), rmp_serde::decode::Error> {
    let mut cursor = std::io::Cursor::new(bytes);
    let mut deserializer = rmp_serde::Deserializer::new(&mut cursor).with_human_readable();
    deserializer.set_max_depth(max_depth);
    let value = T::deserialize(&mut deserializer)?;
    let end = usize::try_from(cursor.position())
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    Ok((value, end))
}

fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let compressed = zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok()?;
    (compressed.len() < body.len()).then_some(compressed)
}

/// Decompresses at most `limits.max_body` bytes; memory grows with what comes out, not with what a header claims.
fn decompress(stored: &[u8], limits: &FrameLimits) -> Result<Vec<u8>, FrameError> {
    use std::io::Read as _;

    let damaged = |error: std::io::Error| FrameError::Zstd(error.to_string());
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(damaged)?;
    let bound = u64::try_from(limits.max_body)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut body = Vec::new();
    decoder
        .by_ref()
        .take(bound)
        .read_to_end(&mut body)
        .map_err(damaged)?;
    if body.len() > limits.max_body {
        return Err(FrameError::BodyTooLarge {
            max: limits.max_body,
        });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Priority;
    use crate::ids::{TaskId, TaskName};
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;

    fn header() -> Header {
        Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 0,
            strikes: 0,
            attempts: 0,
            id: TaskId::from_bytes([7; 16]),
            enqueued_at: Timestamp::from_millis(1),
            expires_at: None,
        }
    }

    fn envelope() -> Envelope {
        Envelope::new(TaskName::new("billing.process_subscription").unwrap())
    }

    fn round_trip(args: &[u8], limits: &FrameLimits) -> Result<Vec<u8>, FrameError> {
        let frame = encode(header(), &envelope(), args, limits)?;
        let header = Header::read(&frame)?;
        let opened = open(&header, &frame, limits)?;
        assert_eq!(opened.envelope, envelope());
        Ok(opened.args().to_vec())
    }

    #[test]
    fn a_task_with_200_bytes_of_arguments_is_stored_in_300() {
        let args = encode_value(&"x".repeat(198)).unwrap();
        assert_eq!(args.len(), 200);
        let frame = encode(header(), &envelope(), &args, &FrameLimits::default()).unwrap();
        assert!(frame.len() <= 300, "{} bytes", frame.len());
    }

    #[test]
    fn json_arguments_reach_typed_ones() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Args {
            id: uuid::Uuid,
            amount: Option<u32>,
        }
        let id = uuid::Uuid::from_u128(42);
        let from_json = encode_value(&json!({ "id": id.to_string(), "amount": 3 })).unwrap();
        let typed: Args = decode_value(&from_json, &FrameLimits::default()).unwrap();
        assert_eq!(
            typed,
            Args {
                id,
                amount: Some(3)
            }
        );
        assert_eq!(encode_value(&typed).unwrap().len(), from_json.len());
    }

    #[test]
    fn a_large_body_is_compressed_and_a_random_one_is_not() {
        let limits = FrameLimits::default();
        let text = encode_value(&"celeriac ".repeat(1_000)).unwrap();
        let frame = encode(header(), &envelope(), &text, &limits).unwrap();
        assert!(Header::read(&frame).unwrap().compressed && frame.len() < 400);
        assert_eq!(round_trip(&text, &limits).unwrap(), text);

        let noise: Vec<u8> = (0..4_000_u32)
            .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect();
        let frame = encode(header(), &envelope(), &noise, &limits).unwrap();
        assert!(frame.len() <= noise.len() + 120);
    }

    #[test]
    fn bounds_hold_before_memory_is_spent() {
        let limits = FrameLimits {
            max_frame: 4_096,
            max_body: 8_192,
            max_depth: 8,
        };
        let bomb = vec![0_u8; 64 << 20];
        assert!(matches!(
            encode(header(), &envelope(), &bomb, &limits),
            Err(FrameError::BodyTooLarge { max: 8_192 })
        ));
        let wide = FrameLimits {
            max_frame: usize::MAX,
            max_body: usize::MAX,
            max_depth: 8,
        };
        let frame = encode(header(), &envelope(), &bomb, &wide).unwrap();
        let head = Header::read(&frame).unwrap();
        assert!(open(&head, &frame, &limits).unwrap_err().is_size());

        let mut deep = vec![0x91_u8; 100];
        deep.push(0xc0);
        assert!(decode_value::<serde_json::Value>(&deep, &limits).is_err());
        assert!(decode_value::<u8>(&[1, 2], &limits).is_err());
    }

    proptest! {
        #[test]
        fn any_arguments_survive(args in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            prop_assert_eq!(round_trip(&args, &FrameLimits::default()).unwrap(), args);
        }

        #[test]
        fn damaged_frames_are_errors_not_panics(
            args in proptest::collection::vec(0_u8..4, 0..3_000),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let limits = FrameLimits { max_frame: 1 << 16, max_body: 1 << 16, max_depth: 16 };
            let mut frame = encode(header(), &envelope(), &args, &limits).unwrap();
            let at = at.index(frame.len());
            frame[at] = byte;
            frame.truncate(cut.index(frame.len() + 1));
            if let Ok(header) = Header::read(&frame)
                && let Ok(opened) = open(&header, &frame, &limits)
            {
                drop(decode_value::<serde_json::Value>(opened.args(), &limits));
            }
        }
    }
}
