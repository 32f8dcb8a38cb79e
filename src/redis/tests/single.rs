//! One server: connections, timeouts, logins, TLS.

use std::process::Command;
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::Value;
use rustix::process::Signal;

use super::servers::{PATIENCE, Server, insist, installed, told, until};
use crate::redis::RedisOptions;
use crate::redis::link::{Links, Slot};

const ANY: Slot = Slot(0);

fn links(url: &str) -> Links {
    Links::new(&RedisOptions::new(url).unwrap()).unwrap()
}

fn ping() -> redis::Cmd {
    redis::cmd("PING")
}

fn pong() -> Value {
    Value::SimpleString("PONG".into())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn a_command_is_answered_and_the_connection_has_a_name() {
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let links = links(&server.url());
    let answer = assert_send(links.query(ANY, &ping())).await;
    assert_eq!(answer, Ok(pong()));
    let name = format!("name=celeriac:{}", std::process::id());
    assert!(server.cli(&["CLIENT", "LIST"]).contains(&name));

    let unknown = links
        .query(ANY, redis::cmd("EVALSHA").arg("0".repeat(40)).arg(0))
        .await;
    assert!(matches!(unknown, Ok(Value::ServerError(_))), "{unknown:?}");
    let wrong = links.query(ANY, &redis::cmd("NONSENSE")).await;
    assert!(
        matches!(wrong, Err(BrokerError::Unavailable(_))),
        "{wrong:?}"
    );
}

/// Goal: a server that comes back within a call's time is not noticed by the caller.
#[tokio::test]
async fn a_command_that_was_never_sent_is_sent_when_the_server_is_back() {
    if !installed() {
        return;
    }
    let mut server = Server::start("").await;
    let links = links(&format!("{}?timeout=60s", server.url()));
    assert_eq!(links.query(ANY, &ping()).await, Ok(pong()));
    server.kill();
    // The end of the connection is noticed before the next command is written into it.
    until("the connection has ended", || links.lanes() == 0).await;
    let command = ping();
    let call = links.query(ANY, &command);
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.restart().await;
    };
    let (answer, ()) = tokio::join!(call, back);
    assert_eq!(answer, Ok(pong()));
}

#[tokio::test]
async fn an_outage_says_what_became_of_the_command() {
    if !installed() {
        return;
    }
    let mut server = Server::start("").await;
    let links = links(&format!("{}?timeout=300ms", server.url()));
    assert_eq!(insist(&links, ANY, &ping()).await, pong());

    server.signal(Signal::STOP);
    let late = links.query(ANY, &ping()).await.unwrap_err().to_string();
    assert!(
        late.contains("did not answer within") && late.contains("unknown"),
        "{late}"
    );
    server.signal(Signal::CONT);
    assert_eq!(insist(&links, ANY, &ping()).await, pong());

    server.kill();
    until("the connection has ended", || links.lanes() == 0).await;
    let away = told(&links, ANY, &ping(), "refused").await;
    assert!(away.contains("nothing was sent"), "{away}");
    assert_eq!(links.lanes(), 0, "nothing is kept of attempts that failed");
}

/// Goal: a connection whose runtime has ended is never used again, although ids of runtimes are.
#[test]
fn connections_go_with_their_runtime() {
    if !installed() {
        return;
    }
    let keeper = runtime();
    let server = keeper.block_on(Server::start(""));
    let links = links(&server.url());
    for _ in 0..20 {
        let here = runtime();
        assert_eq!(here.block_on(links.query(ANY, &ping())), Ok(pong()));
        assert_eq!(links.lanes(), 1);
        drop(here);
        assert_eq!(links.lanes(), 0);
    }
}

#[tokio::test]
async fn a_connection_of_ones_own_blocks_is_unblocked_and_ends_when_dropped() {
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let links = links(&server.url());
    let mut own = links.dedicated(ANY).await.unwrap();
    let id = own.id;
    let mut pop = redis::cmd("BLPOP");
    pop.arg("nothing").arg(0);
    let waiting = tokio::spawn(async move { own.connection.send_packed_command(&pop).await });
    let blocked = || {
        server
            .cli(&["INFO", "clients"])
            .contains("blocked_clients:1")
    };
    while !blocked() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let unblock = redis::cmd("CLIENT")
        .arg("UNBLOCK")
        .arg(id)
        .arg("ERROR")
        .to_owned();
    assert_eq!(links.query(ANY, &unblock).await, Ok(Value::Int(1)));
    let unblocked = waiting.await.unwrap().unwrap();
    assert!(matches!(&unblocked, Value::ServerError(error) if error.code() == "UNBLOCKED"));

    let mut own = links.dedicated(ANY).await.unwrap();
    let mut pop = redis::cmd("BLPOP");
    pop.arg("nothing").arg(0);
    let waiting = tokio::spawn(async move { own.connection.send_packed_command(&pop).await });
    while !blocked() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    while blocked() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_listener_hears_what_is_published() {
    use futures_util::StreamExt as _;
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let links = links(&server.url());
    let (mut listener, _) = links.listener(ANY).await.unwrap();
    listener.subscribe("news").await.unwrap();
    let tell = redis::cmd("PUBLISH").arg("news").arg("x").to_owned();
    assert_eq!(links.query(ANY, &tell).await, Ok(Value::Int(1)));
    let heard = listener.on_message().next().await.unwrap();
    assert_eq!(heard.get_payload_bytes(), b"x");
}

/// Goal: a password can be rotated without a restart, a wrong one is told apart from an outage, and none is ever shown.
#[tokio::test]
async fn a_password_is_read_again_from_its_file() {
    if !installed() {
        return;
    }
    let config = "unixsocket DIR/redis.sock\nuser app on >first ~* &* +@all\nuser default off";
    let server = Server::start(config).await;
    let file = server.path("password");
    let url = format!(
        "unix://app@{}?password_file={}",
        server.path("redis.sock").display(),
        file.display()
    );
    std::fs::write(&file, "first\n").unwrap();
    let links = links(&url);
    assert_eq!(links.query(ANY, &ping()).await, Ok(pong()));
    let rotate = "ACL SETUSER app resetpass >second";
    let mut acl = redis::cmd("ACL");
    for word in rotate.split(' ').skip(1) {
        acl.arg(word);
    }
    links.query(ANY, &acl).await.unwrap();
    let kill = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("SKIPME")
        .arg("no")
        .to_owned();
    drop(links.query(ANY, &kill).await);
    until("the connection has ended", || links.lanes() == 0).await;
    let refused = links.query(ANY, &ping()).await.unwrap_err();
    assert!(
        matches!(&refused, BrokerError::Away(text) if text.contains("password")),
        "{refused}"
    );
    assert!(!refused.to_string().contains("first"), "{refused}");
    std::fs::write(&file, "second").unwrap();
    assert_eq!(insist(&links, ANY, &ping()).await, pong());
    std::fs::remove_file(&file).unwrap();
    let missing = links.dedicated(ANY).await.unwrap_err().to_string();
    assert!(missing.contains("password file"), "{missing}");
}

/// Goal: TLS on both sides, by files; a server that nobody vouches for is refused.
#[tokio::test]
async fn tls_proves_both_sides() {
    if !installed() || Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let port = super::servers::free_port();
    let config = format!(
        "port 0\ntls-port {port}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\ntls-auth-clients yes",
        cert = cert.display(),
        key = key.display(),
    );
    let _server = Server::start_at(port, &config).await;
    let files = format!("ca={c}&cert={c}&key={}", key.display(), c = cert.display());
    let links_of = |query: &str| links(&format!("rediss://127.0.0.1:{port}?timeout=500ms&{query}"));
    assert_eq!(insist(&links_of(&files), ANY, &ping()).await, pong());
    told(&links_of(""), ANY, &ping(), "TLS").await;
    let anonymous = links_of(&format!("ca={}", cert.display()));
    assert!(anonymous.query(ANY, &ping()).await.is_err());
    let missing = RedisOptions::new("rediss://h?ca=/nowhere.pem").unwrap();
    let missing = Links::new(&missing).unwrap_err().to_string();
    assert!(missing.contains("/nowhere.pem cannot be used"), "{missing}");
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let url = format!("rediss://127.0.0.1:{}?timeout=1s", server.port);
    told(&links(&url), ANY, &ping(), "TLS").await;
}

#[tokio::test]
async fn a_server_with_too_many_clients_says_so() {
    if !installed() {
        return;
    }
    let server = Server::start("maxclients 2").await;
    let links = links(&server.url());
    let _one = links.dedicated(ANY).await.unwrap();
    let _two = links.dedicated(ANY).await.unwrap();
    let full = links.query(ANY, &ping()).await.unwrap_err().to_string();
    assert!(
        full.contains("max number of clients") && full.contains("maxclients"),
        "{full}"
    );
}

/// Goal: many runtimes find a server that comes back soon, without having stormed it.
#[test]
fn many_runtimes_find_a_server_that_comes_back() {
    if !installed() {
        return;
    }
    const THREADS: usize = 16;
    let keeper = runtime();
    let mut server = keeper.block_on(Server::start(""));
    let links = links(&server.url());
    let started = tokio::time::Instant::now();
    for _ in 0..2 {
        server.kill();
        std::thread::scope(|scope| {
            let work = || {
                let insist = async {
                    while links.query(ANY, &ping()).await.is_err() {}
                    tokio::time::Instant::now()
                };
                runtime().block_on(insist)
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            let restarted = keeper.block_on(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                server.restart().await;
                tokio::time::Instant::now()
            });
            for thread in threads {
                let found = thread.join().unwrap();
                let after = found.saturating_duration_since(restarted);
                assert!(after < PATIENCE / 4, "{after:?}");
            }
        });
    }
    // Two outages with 16 callers: pauses that double up to a second allow few attempts in each.
    let most = 2 * (60 + 2 * THREADS as u64) + 2 * started.elapsed().as_secs();
    assert!(links.connections() < most, "{}", links.connections());
}
