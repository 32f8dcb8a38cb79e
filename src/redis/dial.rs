//! Opening connections: the socket, TLS, login, name.
//!
//! Built here rather than by the client library, whose TLS reads the system's roots anew for every connection, and whose
//! drivers tell nobody that they have ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::fault::{Class, Fault};
use super::node::{Address, Node};
use super::tls::Tls;
use super::url::{Login, Password};

/// How many commands may wait for the socket of one connection; further callers wait their turn.
const WAITING: usize = 1_024;
/// How many bytes are gathered before they are written.
const GATHERED: usize = 256 << 10;
/// A peer that is silent for so long is asked whether it still lives.
const IDLE: Duration = Duration::from_secs(15);
/// How often it is asked, and how many times.
const PROBES: (Duration, u32) = (Duration::from_secs(5), 3);
/// How long sent bytes may stay unacknowledged by the peer's system, in milliseconds.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: u32 = 20_000;

/// Opens connections of one kind.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) login: Login,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) db: u32,
    /// What the server calls the connection in its list.
    pub(super) name: String,
    /// Whether a server that is no master will not do.
    pub(super) masters_only: bool,
    /// How long one attempt may take.
    pub(super) timeout: Duration,
}

/// A connection as it was opened.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    /// What the server calls it, where it tells.
    pub(super) id: Result<i64, Fault>,
}

/// Something that bytes go through.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Dialer {
    /// Opens a connection for commands. `guard` is dropped when the connection has ended, or its runtime has.
    pub(super) async fn open<G: Send + 'static>(
        &self,
        node: &Node,
        deadline: Instant,
        guard: G,
    ) -> Result<Opened, Fault> {
        self.bounded(node, deadline, async {
            let (info, wire) = (self.info(node)?, self.wire(node).await?);
            let config = AsyncConnectionConfig::new()
                .set_response_timeout(None) // Whoever asks bounds the wait.
                .set_pipeline_buffer_size(WAITING)
                .set_write_backpressure_boundary(GATHERED);
            let made = MultiplexedConnection::new_with_config(&info, wire, config).await;
            let (mut connection, driver) = made.map_err(|error| unopened(node, &error))?;
            drop(tokio::spawn(async move {
                let _guard = guard;
                driver.await;
            }));
            let id = self.greet(node, &mut connection).await?;
            Ok(Opened { connection, id })
        })
        .await
    }

    /// Opens a connection that listens to channels.
    pub(super) async fn listen(&self, node: &Node, deadline: Instant) -> Result<PubSub, Fault> {
        self.bounded(node, deadline, async {
            let (info, wire) = (self.info(node)?, self.wire(node).await?);
            let made = PubSub::new(&info, wire).await;
            made.map_err(|error| unopened(node, &error))
        })
        .await
    }

    async fn bounded<T>(
        &self,
        node: &Node,
        deadline: Instant,
        opening: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let now = Instant::now();
        let until = deadline.min(now + self.timeout);
        if until <= now {
            return Err(Fault::no_time(node));
        }
        let Ok(outcome) = timeout_at(until, opening).await else {
            let waited = until.saturating_duration_since(now);
            let hint = match &self.tls {
                // Such a port takes the first bytes for the beginning of a command, and waits for its end.
                Some(_) => ", or no TLS at that port: it is redis:// then, not rediss://",
                None => "",
            };
            let text = format!(
                "{node}: no connection within {} ms{hint}",
                waited.as_millis()
            );
            // With more time it might have been made.
            let class = match until < deadline {
                true => Class::NotSent,
                false => Class::NoTime,
            };
            return Err(Fault::new(class, text));
        };
        outcome
    }

    async fn wire(&self, node: &Node) -> Result<Box<dyn Wire>, Fault> {
        let wired = match (node.address(), &self.tls) {
            (Address::Unix(path), _) => unix(path).await,
            (Address::Tcp(host, port), None) => match tcp(host, *port).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Wire>),
                Err(error) => Err(error.to_string()),
            },
            (Address::Tcp(host, port), Some(tls)) => match tcp(host, *port).await {
                Ok(stream) => tls
                    .secure(host, stream)
                    .await
                    .map(|stream| Box::new(stream) as Box<dyn Wire>),
                Err(error) => Err(error.to_string()),
            },
        };
        wired.map_err(|why| Fault::not_sent(node, why))
    }

    fn info(&self, node: &Node) -> Result<RedisConnectionInfo, Fault> {
        let mut info = RedisConnectionInfo::default()
            .set_db(i64::from(self.db))
            .set_skip_set_lib_name();
        if let Some(user) = &self.login.user {
            info = info.set_username(user);
        }
        match &self.login.password {
            Password::None => Ok(info),
            Password::Inline(password) => Ok(info.set_password(password)),
            Password::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(info.set_password(text.trim_end_matches(['\r', '\n']))),
                Err(error) => {
                    let why = format!("the password file {}: {error}", path.display());
                    Err(Fault::new(Class::Login, why).at(node))
                }
            },
        }
    }

    /// Names the connection, asks for its id, and whether the server is a master where that matters.
    async fn greet(
        &self,
        node: &Node,
        connection: &mut MultiplexedConnection,
    ) -> Result<Result<i64, Fault>, Fault> {
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(&self.name);
        let mut id = redis::cmd("CLIENT");
        id.arg("ID");
        let role = redis::cmd("ROLE");
        // Sent together, answered one by one: a server that wants no more clients says so once and hangs up.
        let (mut second, mut third) = (connection.clone(), connection.clone());
        let (named, id, role) = tokio::join!(
            connection.send_packed_command(&name),
            second.send_packed_command(&id),
            async {
                match self.masters_only {
                    true => third.send_packed_command(&role).await,
                    false => Ok(Value::Nil),
                }
            },
        );
        if let Value::ServerError(error) = named.map_err(|error| unopened(node, &error))? {
            let fault = Fault::of(&error.into()).at(node);
            // A server that does not let itself be told the name works without.
            if matches!(fault.class, Class::Crowded | Class::Login) {
                return Err(fault);
            }
        }
        if let Value::Array(role) = role.map_err(|error| unopened(node, &error))?
            && !role.first().is_some_and(is_master)
        {
            return Err(Fault::not_sent(node, "it is a replica"));
        }
        match id.map_err(|error| unopened(node, &error))? {
            Value::Int(id) => Ok(Ok(id)),
            Value::ServerError(error) => Ok(Err(Fault::of(&error.into()).at(node))),
            _ => Ok(Err(Fault::new(Class::Garbled, "CLIENT ID").at(node))),
        }
    }
}

fn is_master(role: &Value) -> bool {
    match role {
        Value::BulkString(role) => role == b"master",
        Value::SimpleString(role) => role == "master",
        _ => false,
    }
}

/// Returns why a connection could not be opened: whatever went wrong, the command it was wanted for was not sent.
fn unopened(node: &Node, error: &RedisError) -> Fault {
    let fault = Fault::of(error);
    match fault.class {
        _ if fault.is_unknown() => Fault::not_sent(node, error),
        _ => fault.at(node),
    }
}

async fn unix(path: &Path) -> Result<Box<dyn Wire>, String> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(error.to_string()),
    }
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    use rustix::net::sockopt;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, PROBES.0)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES.1)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED)?;
    Ok(stream)
}
