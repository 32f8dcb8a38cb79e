//! Sentinels: the master is found, and its successor after it.

use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::Value;
use rustix::process::Signal;

use super::servers::{Server, installed};
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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

async fn set(links: &Links, value: i64) -> Result<Value, BrokerError> {
    let command = redis::cmd("SET").arg("key").arg(value).to_owned();
    links.query(ANY, &command).await
}

/// Sets until it works, at most 15 seconds long.
async fn insist(links: &Links, value: i64) {
    let started = tokio::time::Instant::now();
    loop {
        match set(links, value).await {
            Ok(_) => return,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(15), "{error}"),
        }
    }
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
    let late = set(&links, 2).await.unwrap_err().to_string();
    assert!(late.contains("unknown"), "{late}");
    insist(&links, 3).await;
    assert_eq!(group.replica.cli(&["GET", "key"]), "3");
    group.master.signal(Signal::CONT);
    for value in 4..20 {
        insist(&links, value).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
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
    assert_eq!(
        ask(&group.sentinels[0], &["SENTINEL", "FAILOVER", "main"]),
        "OK"
    );
    for value in 2..200 {
        insist(&links, value).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if group.replica.cli(&["ROLE"]).starts_with("master") && value > 100 {
            break;
        }
    }
    insist(&links, 200).await;
    assert_eq!(group.replica.cli(&["GET", "key"]), "200");
}

#[tokio::test]
async fn an_unknown_name_is_told() {
    if !installed() {
        return;
    }
    let group = Group::start().await;
    let wrong = set(&group.links("mian"), 1).await.unwrap_err().to_string();
    assert!(wrong.contains("knows no master \"mian\""), "{wrong}");
}
