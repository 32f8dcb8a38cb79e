//! A proxy in front of a server, which can stall, refuse, and cut a connection at any byte.
//!
//! Two plain threads a connection. It reads along, so that it knows which reply answers which request.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::redis_resp::frame_len;

/// What happens to whoever comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Pass,
    /// Nothing moves, nothing ends.
    Stall,
    /// New connections end at once.
    Refuse,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// When this much of the request has reached the server, which will never see it whole.
    Request(usize),
    /// When the server has answered and this much of its reply has reached the client.
    Reply(usize),
}

/// One cut: of the connection whose request is the `nth` (from 1) that contains `needle`, on any connection.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) needle: Vec<u8>,
    pub(crate) nth: usize,
    pub(crate) at: At,
}

/// What came of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There was no such request yet, or its reply is still to come.
    Pending,
    /// It was cut within the bytes named: so many of them there were.
    Cut { len: usize },
    /// The request or reply was no longer than what was let through: it was cut behind it.
    CutBehind { len: usize },
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    cut: Option<Cut>,
    fate: Option<Fate>,
    open: Vec<TcpStream>,
    accepted: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The proxy; ends, with all its connections, when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one in front of a port of this machine.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, upstream, &ours));
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.state.lock().unwrap().mode = mode;
        self.shared.changed.notify_all();
    }

    /// Plans a cut, in place of one that has not happened.
    pub(crate) fn cut(&self, cut: Cut) {
        let mut state = self.shared.state.lock().unwrap();
        state.cut = Some(cut);
        state.fate = None;
    }

    /// Returns what came of the planned cut.
    pub(crate) fn fate(&self) -> Fate {
        self.shared
            .state
            .lock()
            .unwrap()
            .fate
            .unwrap_or(Fate::Pending)
    }

    /// Cuts all connections that are open.
    pub(crate) fn cut_all(&self) {
        for stream in self.shared.state.lock().unwrap().open.drain(..) {
            end(&stream);
        }
    }

    /// Returns how many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.state.lock().unwrap().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().ended = true;
        self.shared.changed.notify_all();
        self.cut_all();
        // So that the one who accepts looks up; he may be gone already.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    /// Waits while everything stalls. Returns `false` when the proxy has ended.
    fn may_move(&self) -> bool {
        let state = self.state.lock().unwrap();
        let stalls = |state: &mut State| state.mode == Mode::Stall && !state.ended;
        !self.changed.wait_while(state, stalls).unwrap().ended
    }

    /// Counts a request; returns where its connection is to be cut.
    fn plan(&self, request: &[u8]) -> Option<At> {
        let mut state = self.state.lock().unwrap();
        let cut = state.cut.as_mut()?;
        let met = cut.needle.is_empty()
            || request
                .windows(cut.needle.len())
                .any(|bytes| bytes == cut.needle);
        cut.nth -= usize::from(met);
        if cut.nth > 0 {
            return None;
        }
        state.cut.take().map(|cut| cut.at)
    }

    fn report(&self, len: usize, let_through: usize) {
        self.state.lock().unwrap().fate = Some(if let_through < len {
            Fate::Cut { len }
        } else {
            Fate::CutBehind { len }
        });
    }
}

fn end(stream: &TcpStream) {
    // The other side may have ended it before.
    drop(stream.shutdown(Shutdown::Both));
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Arc<Shared>) {
    for client in listener.incoming().map_while(Result::ok) {
        let mut state = shared.state.lock().unwrap();
        if state.ended {
            return;
        }
        state.accepted += 1;
        if state.mode == Mode::Refuse {
            continue;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)) else {
            continue;
        };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let both = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        state.open.extend(both);
        drop(state);
        let wire = Arc::new(Wire {
            client,
            server,
            waiting: Mutex::default(),
            shared: Arc::clone(shared),
        });
        let other = Arc::clone(&wire);
        std::thread::spawn(move || wire.carry(&wire.client, |bytes| wire.request(bytes)));
        std::thread::spawn(move || other.carry(&other.server, |bytes| other.reply(bytes)));
    }
}

/// One connection through the proxy.
struct Wire {
    client: TcpStream,
    server: TcpStream,
    /// For each request without a reply yet: after how many bytes of the reply to cut.
    waiting: Mutex<VecDeque<Option<usize>>>,
    shared: Arc<Shared>,
}

impl Wire {
    /// Hands over frame by frame what `from` says, until it or `give` ends; then both sides end.
    fn carry(&self, mut from: &TcpStream, mut give: impl FnMut(&[u8]) -> Option<()>) {
        let (mut held, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        'all: while let Ok(read @ 1..) = from.read(&mut chunk) {
            held.extend_from_slice(&chunk[..read]);
            while let Some(len) = frame_len(&held) {
                if !self.shared.may_move() || give(&held[..len]).is_none() {
                    break 'all;
                }
                held.drain(..len);
            }
        }
        end(&self.client);
        end(&self.server);
    }

    fn request(&self, bytes: &[u8]) -> Option<()> {
        let mut at = self.shared.plan(bytes);
        if let Some(At::Request(through)) = at {
            self.shared.report(bytes.len(), through);
            (&self.server)
                .write_all(&bytes[..through.min(bytes.len())])
                .ok()?;
            return None;
        }
        let cut = at.take().and_then(|at| match at {
            At::Reply(through) => Some(through),
            At::Request(_) => None,
        });
        self.waiting.lock().unwrap().push_back(cut);
        (&self.server).write_all(bytes).ok()
    }

    fn reply(&self, bytes: &[u8]) -> Option<()> {
        // A push answers nobody.
        let cut = if bytes.starts_with(b">") {
            None
        } else {
            self.waiting.lock().unwrap().pop_front().flatten()
        };
        let Some(through) = cut else {
            return (&self.client).write_all(bytes).ok();
        };
        self.shared.report(bytes.len(), through);
        (&self.client)
            .write_all(&bytes[..through.min(bytes.len())])
            .ok()?;
        None
    }
}
