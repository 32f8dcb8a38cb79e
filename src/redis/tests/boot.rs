//! What is checked before a broker is used.

use celeriac_actors::ids::{ChannelId, QueueName};
use celeriac_actors::ports::{Broker as _, Durability};
use celeriac_actors::testkit::conformance::task;

use super::cluster::enqueue;
use super::servers::{PATIENCE, Server, free_port, installed, until};
use crate::redis::boot::{Boot, check};
use crate::redis::link::{Links, Slot};
use crate::redis::options::{OpenError, RedisOptions};
use crate::redis::{REGISTER_AGAIN, RedisBroker, acl_rules, examine};

const LOGGED: &str = "appendonly yes";

fn options(url: &str) -> RedisOptions {
    RedisOptions::new(url).unwrap()
}

async fn boot(options: &RedisOptions) -> Result<Boot, OpenError> {
    check(&Links::new(options).unwrap(), options).await
}

#[tokio::test]
async fn data_of_another_version_are_left_alone() {
    if !installed() {
        return;
    }
    let server = Server::start(LOGGED).await;
    let at = options(&server.url());
    assert!(boot(&at).await.is_ok());
    assert!(boot(&at).await.is_ok(), "its own form");
    server.cli(&["SET", "celeriac:{celeriac}:schema", "2"]);
    let refused = boot(&at).await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::Form { found, .. } if found == "2") && !refused.is_outage(),
        "{refused}"
    );
    assert!(boot(&at.namespace("elsewhere")).await.is_ok());
}

#[tokio::test]
async fn the_class_is_that_of_the_server() {
    if !installed() {
        return;
    }
    let server = Server::start(LOGGED).await;
    let at = options(&server.url());
    let found = boot(&at).await.unwrap();
    assert_eq!(found.durability, Durability::CrashSafe);
    assert_eq!(found.warnings, Vec::<String>::new());
    assert!(found.version.starts_with(char::is_numeric));
    server.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    assert_eq!(boot(&at).await.unwrap().durability, Durability::PowerSafe);

    server.cli(&["CONFIG", "SET", "appendonly", "no"]);
    let refused = boot(&at).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Volatile { .. }) && !refused.is_outage(),
        "{refused}"
    );
    let allowed = boot(&at.clone().allow_volatile(true)).await.unwrap();
    assert_eq!(allowed.durability, Durability::Volatile);
    assert!(
        allowed.warnings[0].contains("restart loses"),
        "{:?}",
        allowed.warnings
    );

    server.cli(&[
        "CONFIG",
        "SET",
        "maxmemory",
        "100mb",
        "maxmemory-policy",
        "allkeys-lru",
    ]);
    let at = at.allow_volatile(true);
    let refused = boot(&at).await.unwrap_err();
    assert!(matches!(refused, OpenError::Evicts { .. }), "{refused}");
    assert!(boot(&at.allow_eviction(true)).await.is_ok());
}

#[tokio::test]
async fn servers_that_are_no_place_for_a_broker_are_told_apart() {
    if !installed() {
        return;
    }
    let mut server = Server::start(LOGGED).await;
    let replica = Server::start(&format!("{LOGGED}\nreplicaof 127.0.0.1 {}", server.port)).await;
    let refused = boot(&options(&replica.url())).await.unwrap_err();
    assert!(
        refused.to_string().contains("is a replica of 127.0.0.1"),
        "{refused}"
    );
    let alone = format!("redis+cluster://127.0.0.1:{}", server.port);
    let refused = boot(&options(&alone)).await.unwrap_err();
    assert!(refused.to_string().contains("use redis://"), "{refused}");
    let cluster = Server::start(&format!(
        "appendonly yes\ncluster-enabled yes\ncluster-port {}",
        free_port()
    ))
    .await;
    let refused = boot(&options(&cluster.url())).await.unwrap_err();
    assert!(
        refused.to_string().contains("redis+cluster://"),
        "{refused}"
    );
    server.cli(&["ACL", "SETUSER", "default", ">secret"]);
    let refused = boot(&options(&server.url())).await.unwrap_err();
    assert!(matches!(refused, OpenError::Login(_)), "{refused}");
    server.kill();
    let away = boot(&options(&format!("{}?timeout=100ms", server.url())))
        .await
        .unwrap_err();
    assert!(away.is_outage(), "{away}");
}

/// Goal: the documented rule is enough, and what it leaves out is not missed.
#[tokio::test]
async fn the_least_that_a_user_needs_is_enough() {
    if !installed() {
        return;
    }
    let server = Server::start(LOGGED).await;
    let user = |name: &str, more: &[&str]| {
        let rules = acl_rules("celeriac");
        let words = [
            "ACL",
            "SETUSER",
            name,
            "on",
            ">pw",
            "resetkeys",
            "resetchannels",
        ];
        let words: Vec<&str> = words
            .into_iter()
            .chain(rules.split(' '))
            .chain(more.iter().copied())
            .collect();
        assert_eq!(server.cli(&words), "OK");
        options(&format!("redis://{name}:pw@127.0.0.1:{}", server.port))
    };
    let least = user("least", &[]);
    let found = boot(&least).await.unwrap();
    assert_eq!(
        (found.durability, found.warnings),
        (Durability::CrashSafe, vec![])
    );
    let exam = examine(&least).unwrap();
    assert_eq!(exam.denied.as_deref(), Some(&[] as &[String]));
    assert_eq!(exam.servers.len(), 1);
    assert!(
        server.cli(&["ACL", "LOG"]).is_empty(),
        "{}",
        server.cli(&["ACL", "LOG"])
    );

    let less = user("less", &["-config|get", "-hget", "-blpop"]);
    assert!(boot(&less).await.unwrap().warnings[0].contains("CONFIG GET"));
    let denied = examine(&less).unwrap().denied.unwrap();
    assert!(
        denied.len() == 2 && denied.iter().any(|text| text.contains("hget")),
        "{denied:?}"
    );
    assert_eq!(
        examine(&user("mute", &["-acl|dryrun"])).unwrap().denied,
        None
    );
    let blind = boot(&user("blind", &["-info"])).await.unwrap_err();
    assert!(
        matches!(&blind, OpenError::Denied(text) if text.contains("docs/redis.md")),
        "{blind}"
    );

    // What a script may not do is told in words of its own.
    let links = Links::new(&user("script", &["-hget"])).unwrap();
    let script = "return redis.call('HGET', KEYS[1], 'f')";
    let call = redis::cmd("EVAL")
        .arg(script)
        .arg(1)
        .arg("celeriac:{q}:")
        .to_owned();
    let denied = links.query(Slot(0), &call).await.unwrap_err().to_string();
    assert!(denied.contains("docs/redis.md"), "{denied}");
}

#[tokio::test]
async fn wiped_data_is_noticed_once() {
    if !installed() {
        return;
    }
    let server = Server::start(LOGGED).await;
    let at = options(&server.url());
    let links = Links::new(&at).unwrap();
    let generation = check(&links, &at).await.unwrap().generation;
    assert_eq!(generation.look(&links).await, Ok(false));
    assert_eq!(
        server.cli(&["DBSIZE"]),
        "2",
        "the form of the data, and the generation"
    );
    server.cli(&["FLUSHALL"]);
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let ping = redis::cmd("PING");
    while links.query(Slot(0), &ping).await.is_err() {}
    assert_eq!(generation.look(&links).await, Ok(true));
    assert_eq!(generation.look(&links).await, Ok(false));
    assert_eq!(generation.look(&links).await, Ok(false));
}

/// Goal: a server that still reads its data back is away, whatever it says of itself meanwhile: it says that it writes no
/// log.
/// Method: restart it with a log of many keys, each of which takes its time.
#[tokio::test]
async fn a_server_that_loads_its_data_is_away() {
    if !installed() {
        return;
    }
    let mut server = Server::start(&format!("{LOGGED}\nenable-debug-command yes")).await;
    server.cli(&["DEBUG", "POPULATE", "3000", "some", "100"]);
    server.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    server.cli(&["BGREWRITEAOF"]);
    until("the log is rewritten", || {
        let info = server.cli(&["INFO", "persistence"]);
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    })
    .await;
    // Nothing is served until they are there: ten milliseconds each. Between some of them it answers.
    server.configure("key-load-delay 10000\nloading-process-events-interval-bytes 1024");
    server.restart().await;
    let at = options(&format!("{}?timeout=5s", server.url()));
    let loading = boot(&at).await.unwrap_err();
    assert!(
        loading.is_outage() && loading.to_string().contains("loading"),
        "{loading}"
    );
    let links = Links::new(&at).unwrap();
    let away = links
        .query(Slot(0), &redis::cmd("GET").arg("k").to_owned())
        .await;
    assert!(matches!(&away, Err(error) if error.is_outage()), "{away:?}");
    server.cli(&["CONFIG", "SET", "key-load-delay", "0"]);
    let started = tokio::time::Instant::now();
    loop {
        match boot(&at).await {
            Ok(found) => break assert_eq!(found.durability, Durability::CrashSafe),
            Err(error) => assert!(error.is_outage() && started.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// Goal: what a process adds that only enqueues is found again after the data was wiped.
#[tokio::test]
async fn a_queue_is_registered_again_after_a_while() {
    if !installed() {
        return;
    }
    let server = Server::start(LOGGED).await;
    let broker = RedisBroker::open(options(&server.url())).unwrap();
    let (queue, channel) = (QueueName::new("q").unwrap(), ChannelId::random());
    let call = |number| enqueue(&queue, channel, number, task(u128::from(number)));
    broker.enqueue(call(1)).await.unwrap();
    server.cli(&["FLUSHALL"]);
    for last in broker.registered().values_mut() {
        *last = last.checked_sub(REGISTER_AGAIN).unwrap();
    }
    broker.enqueue(call(2)).await.unwrap();
    assert_eq!(broker.queues().await.unwrap().len(), 1);
}
