//! The worker's end of the connection to a child, while an attempt runs there.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::mail::{Inbox, Outbox};
use super::wire::Frame;

/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// How many bytes may wait for a child to read them, before nothing more is read of what it asks. A child reads whatever
/// it has to write, so it does not wait for this in turn.
const MAX_UNREAD: usize = 8 << 20;

/// A connection that reads and writes at the same time.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
    /// Whether nothing can be written any more.
    broken: bool,
}

impl Connection {
    /// Takes over a socket that does not block.
    pub(super) fn new(socket: StdStream) -> io::Result<Self> {
        Ok(Self {
            socket: UnixStream::from_std(socket)?,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            broken: false,
        })
    }

    /// Has a frame written while the next one is waited for.
    pub(super) fn send(&mut self, frame: Vec<u8>) {
        if !self.broken {
            self.outbox.push(frame);
        }
    }

    /// Waits for the next frame, and writes meanwhile; `None` when the child is gone, or says what nobody understands.
    ///
    /// # Cancel safety
    /// Cancel-safe: what was read and what is to be written stays here.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let written = self.outbox.write(|bytes| self.socket.try_write(bytes));
            if written.is_err() {
                // What the child has said before it went is still there to be read.
                self.outbox = Outbox::default();
                self.broken = true;
            }
            if let Some(frame) = self.inbox.next().ok()? {
                return Some(frame);
            }
            let reads = self.outbox.unwritten() <= MAX_UNREAD;
            if reads && self.read().ok()? {
                continue;
            }
            let interest = match (reads, self.outbox.is_empty()) {
                (true, true) => Interest::READABLE,
                (true, false) => Interest::READABLE | Interest::WRITABLE,
                (false, _) => Interest::WRITABLE,
            };
            self.socket.ready(interest).await.ok()?;
        }
    }

    /// Reads what is there; returns whether that was anything.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; CHUNK];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.inbox.push(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gives the socket back for the next attempt; frames that nobody needs any more are not written.
    ///
    /// # Errors
    /// When a part of a frame is on its way: the next attempt would not be understood.
    pub(super) fn into_idle(self) -> io::Result<StdStream> {
        if self.broken || self.outbox.is_amid_a_frame() || !self.inbox.is_empty() {
            return Err(io::Error::other("a part of a frame is on its way"));
        }
        self.socket.into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::wire::{Tag, frame};

    fn pair() -> (Connection, StdStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection::new(ours).unwrap(), theirs)
    }

    /// Goal: a connection between attempts is clean, or not used again.
    #[tokio::test]
    async fn only_a_clean_connection_is_used_again() {
        use std::io::Write as _;

        let (mut connection, mut theirs) = pair();
        theirs.write_all(&frame(Tag::Report, b"done")).unwrap();
        assert_eq!(
            connection.next().await,
            Some((Tag::Report, b"done".to_vec()))
        );
        connection.send(frame(Tag::Cancel, b""));
        assert!(connection.into_idle().is_ok(), "not begun: not written");

        let (mut connection, mut theirs) = pair();
        connection.send(frame(Tag::Reply, &vec![1; 8 << 20]));
        theirs.write_all(&frame(Tag::Report, b"done")).unwrap();
        assert!(connection.next().await.is_some());
        assert!(connection.into_idle().is_err(), "half of a frame is out");

        let (mut connection, mut theirs) = pair();
        theirs.write_all(&frame(Tag::Report, b"done")).unwrap();
        theirs.write_all(&[0]).unwrap();
        assert!(connection.next().await.is_some());
        assert!(connection.into_idle().is_err(), "something came behind it");
    }
}
