//! The server: its threads, its bounds, and its life from before the tree to after it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slog::{Logger, debug, error, info};
use tokio::sync::watch;

use super::events::Hub;
use super::listen::bind;
use super::routes;
use super::state::{Ground, Shared, Work};
use super::tokens::Tokens;
use crate::config::HttpConfig;

/// How many threads serve connections.
const THREADS: usize = 2;
/// How many connections each of them has at most.
const CONNECTIONS: u64 = 4_096;
/// How many files the process is allowed to have open, where the system lets it.
const FILES: u64 = 32_768;
/// How long the head of a request may take to come.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(30);
/// How long what was sent may stay unread before the connection is cut, in milliseconds.
const UNREAD: u32 = 20_000;
/// How long a server that ended by itself waits before it is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long requests may go on when the server ends, in seconds.
const FAREWELL: u64 = 1;

/// The server. Dropping it ends it.
pub(crate) struct Web {
    shared: Arc<Shared>,
    address: SocketAddr,
    end: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Web {
    /// Starts to serve; `None` where nothing can be served and nobody asked for it.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub(crate) fn start(
        config: &HttpConfig,
        ground: Ground,
        hub: Arc<Hub>,
    ) -> Result<Option<Self>, String> {
        let log = ground.log.clone();
        let tokens = Tokens::load(config, &log)?;
        let Some(listener) = bind(config, &log)? else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| format!("the HTTP API cannot be served: {error}");
        let address = listener.local_addr().map_err(failed)?;
        let is_open = tokens.is_open();
        let shared = Arc::new(Shared::new(ground, config.hosts.clone(), tokens, hub));
        let (end, end_in) = watch::channel(false);
        let (ended, ended_in) = mpsc::sync_channel(1);
        let stage = Stage {
            shared: Data::from(Arc::clone(&shared)),
            listener,
            connections: connections(),
            log: log.clone(),
        };
        std::thread::Builder::new()
            .name("celeriac-http".to_owned())
            .spawn(move || {
                actix_rt::System::new().block_on(stage.run(end_in));
                // Nobody waits any more when the process ends at once.
                let _gone = ended.send(());
            })
            .map_err(failed)?;
        info!(log, "serves HTTP"; "address" => %address, "tokens" => !is_open);
        Ok(Some(Self {
            shared,
            address,
            end,
            ended: ended_in,
        }))
    }

    /// Returns where it serves.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands it the tree, once it stands.
    pub(crate) fn attach(&self, work: Work) {
        // Once, by whoever started the tree.
        drop(self.shared.work.set(work));
    }

    /// Says that the process ends: `/readyz` says so from now on, and streams of events end.
    pub(crate) fn leaving(&self) {
        self.shared.stopping.send_replace(true);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.leaving();
        self.end.send_replace(true);
        // What does not end in time ends with the process.
        let _in_time = self.ended.recv_timeout(Duration::from_secs(FAREWELL + 2));
    }
}

/// What the server's thread works with.
struct Stage {
    shared: Data<Shared>,
    listener: TcpListener,
    connections: usize,
    log: Logger,
}

impl Stage {
    /// Serves until it is told to end; a server that ends by itself is started again.
    async fn run(self, mut end: watch::Receiver<bool>) {
        loop {
            let server = match self.server() {
                Ok(server) => server,
                Err(error) => {
                    error!(self.log, "the HTTP API cannot be served; trying again"; "error" => %error);
                    if over(&mut end, PAUSE).await {
                        return;
                    }
                    continue;
                }
            };
            let handle = server.handle();
            let mut server = actix_rt::spawn(server);
            let ended = tokio::select! {
                ended = &mut server => Some(ended),
                _ = end.wait_for(|end| *end) => None,
            };
            let Some(ended) = ended else {
                handle.stop(true).await;
                debug!(self.log, "the HTTP server ended");
                return;
            };
            let reason = format!("{ended:?}");
            error!(self.log, "the HTTP server ended by itself; it is started again"; "reason" => reason);
            if over(&mut end, PAUSE).await {
                return;
            }
        }
    }

    fn server(&self) -> std::io::Result<actix_web::dev::Server> {
        let shared = self.shared.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .wrap(from_fn(dress))
                .configure(routes::mount)
        });
        let server = server
            .workers(THREADS)
            .worker_max_blocking_threads(1)
            .max_connections(self.connections)
            .client_request_timeout(HEAD)
            .client_disconnect_timeout(Duration::from_secs(1))
            .keep_alive(IDLE)
            .disable_signals()
            .shutdown_timeout(FAREWELL)
            .on_connect(|connection, _| {
                if let Some(stream) = connection.downcast_ref::<actix_rt::net::TcpStream>() {
                    // Where the system does not know it, the reader is bounded by what is written alone.
                    let _unknown = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD);
                }
            })
            .listen(self.listener.try_clone()?)?;
        Ok(server.run())
    }
}

/// Waits for a span; returns whether the end came first.
async fn over(end: &mut watch::Receiver<bool>, span: Duration) -> bool {
    tokio::time::timeout(span, end.wait_for(|end| *end))
        .await
        .is_ok()
}

/// Returns how many connections each thread may have: never so many that they take the files that the work needs.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(FILES).min(FILES);
    let mut files = limit.current.unwrap_or(FILES);
    if files < wanted {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = wanted;
        }
    }
    let each = (files / 2 / THREADS as u64).clamp(16, CONNECTIONS);
    usize::try_from(each).unwrap_or(16)
}

/// Gives every response what it needs: its number, and what browsers must not do with it.
async fn dress(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let mut response = next.call(request).await?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: HeaderValue| {
        headers.insert(HeaderName::from_static(name), value);
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        set("x-request-id", id);
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        set(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
