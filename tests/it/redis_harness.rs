//! The servers and the proxy that the tests of the Redis broker stand on do what they say.

use std::time::Duration;

use rustix::process::Signal;

use crate::redis_proxy::{At, Cut, Fate, Mode, Proxy};
use crate::redis_resp::{Reply, Resp, command, frame_len};
use crate::redis_server::{Persistence, RedisServer, ServerOptions, wait_until};
use crate::redis_topology::{RedisCluster, RedisSentinel};

fn server(persistence: Persistence) -> RedisServer {
    RedisServer::start(ServerOptions {
        persistence,
        ..ServerOptions::default()
    })
}

#[test]
fn a_log_survives_the_kill_and_memory_does_not() {
    for (persistence, kept) in [
        (Persistence::AofAlways, "1000"),
        (Persistence::AofEverysec, "1000"),
        (Persistence::None, "0"),
    ] {
        let mut server = server(persistence);
        let (url, mut connection) = (server.url(), server.connect());
        for number in 0..1_000 {
            let reply = connection
                .ask(&["RPUSH", "list", &number.to_string()])
                .unwrap();
            assert_eq!(reply, Reply::Integer(number + 1));
        }
        // What is written while the log is synced stays in the process for a moment.
        let written = || server.info("aof_buffer_length") != "0";
        wait_until("everything is in the log", || {
            (persistence == Persistence::None || !written()).then_some(())
        });
        server.kill();
        assert!(connection.ask(&["PING"]).is_err());
        assert!(Resp::connect(server.port).is_err());
        server.restart();
        assert_eq!(server.url(), url);
        assert_eq!(
            server.ask(&["LLEN", "list"]).text(),
            kept,
            "{persistence:?}"
        );
    }
}

/// Goal: on a slow disk a kill loses a tail and nothing but a tail, so that tests of that class test something.
/// Method: kill it during a sync, while what is written stays in the process; again where the sync ended before the kill.
#[test]
fn a_slow_disk_loses_the_tail_of_a_log_synced_each_second() {
    let mut server = RedisServer::start(ServerOptions {
        slow_sync: Some(Duration::from_secs(1)),
        ..ServerOptions::default()
    });
    wait_until("a kill loses something", || {
        let mut connection = server.connect();
        let mut next = || -> i64 {
            let reply = connection.ask(&["INCR", "number"]).unwrap();
            reply.text().parse().unwrap()
        };
        wait_until("a sync is under way", || {
            next();
            (server.info("aof_pending_bio_fsync") == "1").then_some(())
        });
        let acknowledged = (0..20).map(|_| next()).last()?;
        server.kill();
        server.restart();
        let kept: i64 = server.ask(&["GET", "number"]).text().parse().unwrap();
        assert!(
            (acknowledged - 70..=acknowledged).contains(&kept),
            "{kept} of {acknowledged}"
        );
        (kept < acknowledged).then_some(())
    });
}

#[test]
fn a_full_server_refuses_and_reads() {
    let server = RedisServer::start(ServerOptions {
        maxmemory: Some((3 << 20, "noeviction")),
        ..ServerOptions::default()
    });
    let value = "x".repeat(100_000);
    let refused = wait_until("it is full", || {
        let reply = server.ask(&["RPUSH", "list", &value]);
        matches!(reply, Reply::Error(_)).then_some(reply)
    });
    assert!(refused.text().starts_with("OOM "), "{refused:?}");
    assert!(server.ask(&["LLEN", "list"]).text().parse::<u32>().unwrap() > 0);
}

#[test]
fn users_may_do_what_their_rules_say() {
    let server = RedisServer::start(ServerOptions {
        users: vec!["user worker on >secret ~mine:* +get +auth".to_owned()],
        ..ServerOptions::default()
    });
    let mut connection = server.connect();
    let wrong = connection.ask(&["AUTH", "worker", "wrong"]).unwrap();
    assert!(wrong.text().starts_with("WRONGPASS"), "{wrong:?}");
    assert_eq!(
        connection
            .ask(&["AUTH", "worker", "secret"])
            .unwrap()
            .text(),
        "OK"
    );
    assert_eq!(connection.ask(&["GET", "mine:1"]).unwrap(), Reply::Nil);
    let refused = connection.ask(&["GET", "other"]).unwrap();
    assert!(refused.text().starts_with("NOPERM"), "{refused:?}");
    assert!(server.url_as("worker", "secret").contains("worker:secret@"));
}

/// Method: Redis's own client, which checks certificates with another library than ours.
#[test]
fn it_speaks_tls_and_over_a_socket() {
    let server = RedisServer::start(ServerOptions {
        tls: true,
        ..ServerOptions::default()
    });
    let cli = |args: &[&str]| {
        let out = std::process::Command::new("redis-cli")
            .args(args)
            .arg("PING")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let (authority, url) = (server.authority(), server.tls_url());
    let authority = authority.to_str().unwrap();
    assert_eq!(cli(&["-u", &url, "--cacert", authority]), "PONG");
    assert_ne!(
        cli(&["-u", &url]),
        "PONG",
        "nobody else trusts that authority"
    );
    assert_eq!(
        cli(&["-s", server.unix_url().strip_prefix("unix://").unwrap()]),
        "PONG"
    );
}

#[test]
fn a_frozen_server_goes_on() {
    let server = server(Persistence::None);
    let mut connection = server.connect();
    server.signal(Signal::STOP);
    let (said, heard) = std::sync::mpsc::channel();
    let asks = std::thread::spawn(move || said.send(connection.ask(&["PING"]).unwrap()));
    assert!(heard.recv_timeout(Duration::from_millis(200)).is_err());
    server.signal(Signal::CONT);
    assert_eq!(heard.recv().unwrap().text(), "PONG");
    asks.join().unwrap().unwrap();
}

#[test]
fn a_cluster_serves_every_slot_on_one_node() {
    let cluster = RedisCluster::start();
    for key in ["a", "b", "c", "{tag}:x", "{tag}:y"] {
        assert_eq!(cluster.node_of(key).ask(&["SET", key, key]).text(), "OK");
        let moved = |node: &&RedisServer| node.ask(&["GET", key]).text().starts_with("MOVED");
        assert_eq!(cluster.nodes.iter().filter(moved).count(), 2);
    }
    assert_eq!(
        cluster.node_of("{tag}:x").port,
        cluster.node_of("{tag}:y").port
    );
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
}

#[test]
fn sentinels_fail_over_when_asked_and_when_the_master_dies() {
    let mut group = RedisSentinel::start(3);
    let first = group.master_port();
    assert_eq!(group.servers[0].ask(&["SET", "key", "value"]).text(), "OK");
    group.wait_replicated();
    assert_eq!(group.url().matches("127.0.0.1:").count(), 3);
    group.failover();
    group.wait_ready();
    let second = group.master_port();
    assert_ne!(first, second);
    assert_eq!(group.servers[1].ask(&["GET", "key"]).text(), "value");
    let killed = group.kill_master();
    group.wait_other_than(second);
    assert_eq!((killed, group.master_port()), (1, first));
    group.servers[killed].restart();
    group.wait_ready();
}

#[test]
fn frames_are_measured() {
    for frame in [
        "+OK\r\n",
        "-ERR no\r\n",
        ":17\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$4\r\n\r\n\r\n\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        "%1\r\n+a\r\n:1\r\n",
        ">2\r\n+a\r\n_\r\n",
        "|1\r\n+a\r\n:1\r\n#t\r\n",
    ] {
        let mut bytes = frame.as_bytes().to_vec();
        for len in 0..frame.len() {
            assert_eq!(frame_len(&bytes[..len]), None, "{frame:?} to {len}");
        }
        bytes.extend_from_slice(b"+next\r\n");
        assert_eq!(frame_len(&bytes), Some(frame.len()), "{frame:?}");
    }
}

/// Goal: a connection can be cut at every byte of a reply; the server has done what it was asked each time.
#[test]
fn a_proxy_cuts_at_every_byte() {
    let server = server(Persistence::None);
    let proxy = Proxy::start(server.port);
    let expected = b"$5\r\nhello\r\n";
    for through in 0..=expected.len() {
        proxy.cut(Cut {
            needle: b"APPEND".to_vec(),
            nth: 2,
            at: At::Reply(through),
        });
        let mut connection = Resp::connect(proxy.port).unwrap();
        let key = format!("reply-{through}");
        connection.ask(&["SET", &key, "hell"]).unwrap();
        connection.ask(&["APPEND", "other", "x"]).unwrap();
        assert_eq!(proxy.fate(), Fate::Pending);
        let answer = connection.ask(&["APPEND", &key, "o"]);
        assert_eq!(
            answer.is_ok(),
            through >= 4,
            "`:5` and its end are four bytes: {answer:?}"
        );
        assert_eq!(server.ask(&["GET", &key]), Reply::Bytes(b"hello".to_vec()));
        let fate = match through {
            0..4 => Fate::Cut { len: 4 },
            _ => Fate::CutBehind { len: 4 },
        };
        assert_eq!(proxy.fate(), fate);
        assert!(connection.ask(&["PING"]).is_err(), "it is cut");
    }
    let request = command(&["INCR", "request"]);
    for through in 0..request.len() {
        proxy.cut(Cut {
            needle: Vec::new(),
            nth: 1,
            at: At::Request(through),
        });
        let mut connection = Resp::connect(proxy.port).unwrap();
        assert!(connection.ask(&["INCR", "request"]).is_err());
        assert_eq!(proxy.fate(), Fate::Cut { len: request.len() });
    }
    assert_eq!(
        server.ask(&["GET", "request"]),
        Reply::Nil,
        "no request came whole"
    );
}

#[test]
fn a_proxy_stalls_refuses_and_cuts_all() {
    let server = server(Persistence::None);
    let proxy = Proxy::start(server.port);
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port));
    let mut connection = Resp::connect(proxy.port).unwrap();
    assert_eq!(connection.ask(&["PING"]).unwrap().text(), "PONG");
    proxy.set(Mode::Stall);
    let (said, heard) = std::sync::mpsc::channel();
    let asks = std::thread::spawn(move || {
        said.send(connection.ask(&["PING"]).unwrap()).unwrap();
        connection
    });
    assert!(heard.recv_timeout(Duration::from_millis(100)).is_err());
    proxy.set(Mode::Refuse);
    assert_eq!(
        heard.recv().unwrap().text(),
        "PONG",
        "what is open moves again"
    );
    let refused = Resp::connect(proxy.port).and_then(|mut c| c.ask(&["PING"]));
    assert!(refused.is_err(), "{refused:?}");
    proxy.set(Mode::Pass);
    let mut connection = asks.join().unwrap();
    assert_eq!(connection.ask(&["PING"]).unwrap().text(), "PONG");
    proxy.cut_all();
    assert!(connection.ask(&["PING"]).is_err());
    let mut again = Resp::connect(proxy.port).unwrap();
    assert_eq!(again.ask(&["PING"]).unwrap().text(), "PONG");
    assert_eq!(proxy.accepted(), 3);
    drop(proxy);
    assert!(again.ask(&["PING"]).is_err());
}
