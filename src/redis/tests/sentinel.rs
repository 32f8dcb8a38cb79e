//! Sentinels: the master is found, and its successor after it.

use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::Cmd;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::servers::{self, PATIENCE, Server, installed, told, until};
use crate::redis::RedisOptions;
use crate::redis::link::{Links, Slot};

const ANY: Slot = Slot(0);

struct Group {
    master: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Group {
    async fn start() -> Self {
        let master = Server::start("").await;
        let config = format!(
            "replicaof 127.0.0.1 {}\nrepl-diskless-sync-delay 0",
            master.port
        );
        let replica = Server::start(&config).await;
        while !master
            .cli(&["INFO", "replication"])
            .contains("state=online")
        {
            sleep(Duration::from_millis(20)).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..2 {
            let config = format!(
                "requirepass watch\nsentinel sentinel-pass watch\nsentinel monitor main 127.0.0.1 {} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 1000",
                master.port
            );
            let sentinel = Server::sentinel(&config).await;
            let haste = "SENTINEL DEBUG info-period 200 ping-period 100 ask-period 200 publish-period 200 election-timeout 1000";
            let words: Vec<&str> = ["-a", "watch", "--no-auth-warning"]
                .into_iter()
                .chain(haste.split(' '))
                .collect();
            sentinel.cli(&words);
            sentinels.push(sentinel);
        }
        let group = Self {
            master,
            replica,
            sentinels,
        };
        while !group.knows_replica() {
            sleep(Duration::from_millis(20)).await;
        }
        group
    }

    fn knows_replica(&self) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let known = ask(sentinel, &["SENTINEL", "REPLICAS", "main"]);
            known.contains("master-link-status\nok")
        })
    }

    fn links(&self, name: &str) -> Links {
        let file = self.master.path("sentinel-password");
        std::fs::write(&file, "watch\n").unwrap();
        let ports: Vec<String> = self
            .sentinels
            .iter()
            .map(|s| format!("127.0.0.1:{}", s.port))
            .collect();
        // The first one never answers: nobody listens there.
        let url = format!(
            "redis+sentinel://127.0.0.1:1,{}/{name}?timeout=1s&sentinel_password_file={}",
            ports.join(","),
            file.display()
        );
        Links::new(&RedisOptions::new(&url).unwrap()).unwrap()
    }
}

fn ask(sentinel: &Server, words: &[&str]) -> String {
    let words: Vec<&str> = ["-a", "watch", "--no-auth-warning"]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    sentinel.cli(&words)
}

fn setting(value: i64) -> Cmd {
    redis::cmd("SET").arg("key").arg(value).to_owned()
}

/// Sets until it works.
async fn insist(links: &Links, value: i64) {
    servers::insist(links, ANY, &setting(value)).await;
}

#[tokio::test]
async fn a_killed_master_is_succeeded() {
    if !installed() {
        return;
    }
    let mut group = Group::start().await;
    let links = group.links("main");
    insist(&links, 1).await;
    assert!(
        group
            .master
            .cli(&["CLIENT", "LIST"])
            .contains("name=celeriac:")
    );
    group.master.kill();
    insist(&links, 2).await;
    assert_eq!(group.replica.cli(&["GET", "key"]), "2");
}

/// Goal: a master that hangs is given up for its successor, and not taken back when it wakes up as a replica.
#[tokio::test]
async fn a_frozen_master_is_succeeded() {
    if !installed() {
        return;
    }
    let group = Group::start().await;
    let links = group.links("main");
    insist(&links, 1).await;
    group.master.signal(Signal::STOP);
    // The first call hangs with it, unless the sentinels were faster.
    if let Err(late) = links.query(ANY, &setting(2)).await {
        assert!(late.to_string().contains("unknown"), "{late}");
    }
    insist(&links, 3).await;
    assert_eq!(group.replica.cli(&["GET", "key"]), "3");
    group.master.signal(Signal::CONT);
    for value in 4..20 {
        insist(&links, value).await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(group.replica.cli(&["GET", "key"]), "19");
}

/// Goal: a failover on command, with both servers alive, is followed; no write ends on a replica.
#[tokio::test]
async fn a_demoted_master_is_left() {
    if !installed() {
        return;
    }
    let group = Group::start().await;
    let links = group.links("main");
    insist(&links, 1).await;
    until("a sentinel begins a failover", || {
        ask(&group.sentinels[0], &["SENTINEL", "FAILOVER", "main"]) == "OK"
    })
    .await;
    let mut value = 2;
    let succeeded = || {
        let role = |server: &Server| server.cli(&["ROLE"]);
        role(&group.replica).starts_with("master") && role(&group.master).starts_with("slave")
    };
    let started = Instant::now();
    while !succeeded() {
        assert!(started.elapsed() < PATIENCE, "no failover");
        if value % 200 == 0 {
            // The sentinels gave the first one up: one that is going on refuses another.
            ask(&group.sentinels[0], &["SENTINEL", "FAILOVER", "main"]);
        }
        insist(&links, value).await;
        value += 1;
        sleep(Duration::from_millis(20)).await;
    }
    insist(&links, value).await;
    assert_eq!(group.replica.cli(&["GET", "key"]), value.to_string());
}

#[tokio::test]
async fn an_unknown_name_is_told() {
    if !installed() {
        return;
    }
    let group = Group::start().await;
    let words = "knows no master \"mian\"";
    let wrong = told(&group.links("mian"), ANY, &setting(1), words).await;
    // Nobody listens where the first one should be.
    assert!(wrong.contains("127.0.0.1:1: "), "{wrong}");
}

/// Goal: what a sentinel said is told, although there was no time to ask it again, nor for others to answer at all.
/// Method: one that answers a single time, and one that never does.
#[tokio::test]
async fn what_a_sentinel_said_counts_for_more_than_that_time_ran_out() {
    let once = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let never = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let url = format!(
        "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/mian?timeout=2s",
        port(&once),
        port(&never)
    );
    let links = Links::new(&RedisOptions::new(&url).unwrap()).unwrap();
    let command = setting(1);
    let asked = links.query(ANY, &command);
    let answered = async {
        let (socket, _) = once.accept().await.unwrap();
        let mut lines = BufReader::new(socket);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).await.unwrap();
            let answer: &[u8] = match line.trim_end() {
                "SETNAME" => b"+OK\r\n",
                "ID" => b":7\r\n",
                "mian" => b"*-1\r\n",
                _ => continue,
            };
            lines.get_mut().write_all(answer).await.unwrap();
            if answer.starts_with(b"*") {
                return lines;
            }
        }
    };
    let (outcome, _open) = tokio::join!(asked, answered);
    let wrong = outcome.unwrap_err();
    assert!(matches!(wrong, BrokerError::Away(_)), "{wrong:?}");
    let wrong = wrong.to_string();
    assert!(wrong.contains("knows no master \"mian\""), "{wrong}");
    assert!(
        wrong.contains(&port(&never).to_string()) && wrong.contains("nothing was sent"),
        "{wrong}"
    );
}
