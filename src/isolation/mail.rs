//! What is read and what is to be written of a connection: frames put together, frames written piece by piece.
//!
//! Both sides read while they write, so that large frames in both directions at once do not wait for each other.

use std::collections::VecDeque;
use std::io;

use super::wire::{Damaged, Frame, HEAD, MAX_BODY, Tag};

/// Puts frames together from what was read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Inbox {
    /// Takes in what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.at > self.bytes.len() / 2 {
            // Else what was taken out stays for as long as there is always the beginning of another frame.
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns whether there is nothing, not even a part of a frame.
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Takes the next whole frame out.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Damaged> {
        let rest = &self.bytes[self.at..];
        let Some(&[a, b, c, d, tag]) = rest.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let tag = Tag::of(tag).filter(|_| len <= MAX_BODY);
        let tag = tag.ok_or(Damaged)?;
        let Some(body) = rest.get(HEAD..HEAD + len) else {
            return Ok(None);
        };
        let body = body.to_vec();
        self.at += HEAD + len;
        if self.at == self.bytes.len() {
            // A large frame is not kept room for.
            self.bytes = Vec::new();
            self.at = 0;
        }
        Ok(Some((tag, body)))
    }
}

/// Frames that are to be written, in their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Vec<u8>>,
    /// How much of the first one is written.
    at: usize,
    bytes: usize,
}

impl Outbox {
    /// Adds a frame.
    pub(super) fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Returns how many bytes are still to be written.
    pub(super) const fn unwritten(&self) -> usize {
        self.bytes
    }

    /// Returns whether all is written.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether a frame is written in part.
    pub(super) const fn is_amid_a_frame(&self) -> bool {
        self.at > 0
    }

    /// Writes as much as `write` takes.
    ///
    /// # Errors
    /// As `write`; that it would block is none.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(frame) = self.frames.front() {
            match write(&frame[self.at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.at += count;
                    self.bytes -= count;
                    if self.at == frame.len() {
                        self.frames.pop_front();
                        self.at = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::wire::frame;

    #[test]
    fn frames_are_put_together_from_pieces() {
        let mut bytes = frame(Tag::Order, b"attempt");
        bytes.extend(frame(Tag::Cancel, b""));
        let mut inbox = Inbox::default();
        let mut found = Vec::new();
        for byte in bytes {
            inbox.push(&[byte]);
            found.extend(inbox.next().unwrap());
        }
        assert_eq!(
            found,
            [(Tag::Order, b"attempt".to_vec()), (Tag::Cancel, Vec::new())]
        );
        assert_eq!(inbox.next(), Ok(None));
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_damage() {
        for bytes in [[0, 0, 0, 1, 99], [255, 255, 255, 255, 2]] {
            let mut inbox = Inbox::default();
            inbox.push(&bytes);
            assert_eq!(inbox.next(), Err(Damaged));
        }
    }

    /// Goal: a connection that never rests does not keep what was taken out of it.
    /// Method: push so that there is always a part of another frame.
    #[test]
    fn what_was_taken_out_is_not_kept() {
        let line = frame(Tag::Log, &[7; 100]);
        let mut inbox = Inbox::default();
        inbox.push(&line[..50]);
        for _ in 0..10_000 {
            inbox.push(&line[50..]);
            inbox.push(&line[..50]);
            assert!(inbox.next().unwrap().is_some());
        }
        assert!(inbox.bytes.len() < 1_000, "{}", inbox.bytes.len());
    }

    #[test]
    fn frames_are_written_piece_by_piece() {
        let mut outbox = Outbox::default();
        outbox.push(frame(Tag::Order, b"attempt"));
        outbox.push(frame(Tag::Cancel, b""));
        let mut written = Vec::new();
        let mut taken = false;
        while !outbox.is_empty() {
            outbox
                .write(|bytes| {
                    taken = !taken;
                    if !taken {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    written.extend_from_slice(&bytes[..1]);
                    Ok(1)
                })
                .unwrap();
        }
        let mut whole = frame(Tag::Order, b"attempt");
        whole.extend(frame(Tag::Cancel, b""));
        assert_eq!((written, outbox.is_amid_a_frame()), (whole, false));
        outbox.push(vec![1, 2]);
        assert!(outbox.write(|_| Ok(0)).is_err());
    }
}
