//! A tiny client of Redis for the tests themselves, and where one frame of its protocol ends.
//!
//! It knows nothing of the driver under test, so that neither hides the faults of the other.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use crate::daemon::PATIENCE;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Status(String),
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Array(Vec<Reply>),
}

impl Reply {
    /// Returns a reply that is text, or the number as text; anything else is empty.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Nil | Self::Array(_) => String::new(),
        }
    }

    /// Returns the parts of an array; anything else has none.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::Array(parts) => parts,
            _ => &[],
        }
    }

    /// Returns the value of a line `field:value` of a reply to `INFO` and the like.
    pub(crate) fn field(&self, field: &str) -> Option<String> {
        let text = self.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(name, _)| *name == field)
            .map(|found| found.1.to_owned())
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a command and reads its reply.
    pub(crate) fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> std::io::Result<Reply> {
        self.stream.get_mut().write_all(&command(words))?;
        read(&mut self.stream)
    }
}

/// Returns a command as it is sent.
pub(crate) fn command(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn read(from: &mut BufReader<TcpStream>) -> std::io::Result<Reply> {
    let broken = |line: &str| std::io::Error::other(format!("no reply: {line:?}"));
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or_else(|| broken(&line))?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| broken(line))?;
    let number = || rest.parse::<i64>().map_err(|_| broken(line));
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Integer(number()?),
        "$" | "*" => match (kind, usize::try_from(number()?)) {
            (_, Err(_)) => Reply::Nil,
            ("$", Ok(len)) => {
                let mut bytes = vec![0; len + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(len);
                Reply::Bytes(bytes)
            }
            (_, Ok(len)) => Reply::Array((0..len).map(|_| read(from)).collect::<Result<_, _>>()?),
        },
        _ => return Err(broken(line)),
    })
}

/// Returns the length of the first frame in `bytes` (a command or a reply, RESP 2 or 3), if it is there whole.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let mut len = end + 2;
    let (kind, rest) = bytes[..end].split_first()?;
    let number = std::str::from_utf8(rest)
        .ok()
        .and_then(|text| text.parse().ok());
    let number: usize = number.unwrap_or(0);
    let parts = match kind {
        b'$' | b'=' | b'!' => {
            // A nil has no body.
            if !rest.starts_with(b"-") {
                len += number + 2;
            }
            0
        }
        b'*' | b'~' | b'>' => number,
        // An attribute goes before the frame that it describes.
        b'%' => 2 * number,
        b'|' => 2 * number + 1,
        _ => 0,
    };
    for _ in 0..parts {
        len += frame_len(bytes.get(len..)?)?;
    }
    (len <= bytes.len()).then_some(len)
}
