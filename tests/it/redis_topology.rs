//! Several Redis servers that act as one: a cluster, and a master with replica and sentinels.

use crate::redis_resp::Reply;
use crate::redis_server::{RedisServer, ServerOptions, wait_until};

/// How the sentinels call what they watch.
const MASTER: &str = "celeriac";

/// Milliseconds of the sentinels' own rhythm, a tenth of the usual.
const HASTE: &str = "SENTINEL DEBUG info-period 200 ping-period 100 ask-period 200 publish-period 200 \
    slave-reconf-timeout 1000 min-link-reconnect-period 500 election-timeout 1000 \
    tilt-trigger 5000 tilt-period 1000";

/// Three masters with a third of the slots each.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) fn start() -> Self {
        let start = || {
            RedisServer::start(ServerOptions {
                cluster: true,
                ..ServerOptions::default()
            })
        };
        let nodes: Vec<_> = (0..3).map(|_| start()).collect();
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (number, (node, (first, last))) in nodes.iter().zip(slots).enumerate() {
            // An epoch of its own each, or they would have to agree on who changes it.
            done(&node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]));
            done(&node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]));
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.bus_port.to_string());
            done(&nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]));
        }
        let cluster = Self { nodes };
        cluster.wait_ok();
        cluster
    }

    /// Waits until every node knows all nodes and serves.
    pub(crate) fn wait_ok(&self) {
        wait_until("the cluster is whole", || {
            let whole = |node: &RedisServer| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.field("cluster_state").as_deref() == Some("ok")
                    && info.field("cluster_known_nodes").as_deref() == Some("3")
            };
            self.nodes.iter().all(whole).then_some(())
        });
    }

    pub(crate) fn url(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Returns the node that serves a key.
    pub(crate) fn node_of(&self, key: &str) -> &RedisServer {
        let serves = |node: &&RedisServer| !node.ask(&["EXISTS", key]).text().starts_with("MOVED");
        self.nodes
            .iter()
            .find(serves)
            .expect("every slot is served")
    }
}

/// A master, its replica, and sentinels that agree by majority.
#[derive(Debug)]
pub(crate) struct RedisSentinel {
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    pub(crate) fn start(sentinels: usize) -> Self {
        let server = |replica_of: Option<u16>| {
            let mut config = vec!["repl-diskless-sync-delay 0".to_owned()];
            config.extend(replica_of.map(|port| format!("replicaof 127.0.0.1 {port}")));
            RedisServer::start(ServerOptions {
                config,
                ..ServerOptions::default()
            })
        };
        let master = server(None);
        let replica = server(Some(master.port));
        let quorum = sentinels / 2 + 1;
        let config = [
            format!(
                "sentinel monitor {MASTER} 127.0.0.1 {} {quorum}",
                master.port
            ),
            // A busy machine keeps a server waiting for longer than one would think.
            format!("sentinel down-after-milliseconds {MASTER} 2000"),
            format!("sentinel failover-timeout {MASTER} 1000"),
        ];
        let sentinel = |_| {
            let sentinel = RedisServer::start(ServerOptions {
                sentinel: true,
                config: config.to_vec(),
                ..ServerOptions::default()
            });
            done(&sentinel.ask(&HASTE.split_whitespace().collect::<Vec<_>>()));
            sentinel
        };
        let this = Self {
            sentinels: (0..sentinels).map(sentinel).collect(),
            servers: vec![master, replica],
        };
        this.wait_ready();
        this
    }

    /// Waits until a replica hears every write, and every sentinel knows the others and a replica to fail over to.
    pub(crate) fn wait_ready(&self) {
        wait_until("a replica follows", || {
            let port = self.master_port();
            let mut servers = self.servers.iter();
            let master = servers.find(|server| server.port == port)?;
            master.info("slave0").contains("state=online").then_some(())
        });
        wait_until("the sentinels know everybody", || {
            let ready = |sentinel: &RedisServer| {
                let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", MASTER]);
                let others = sentinel.ask(&["SENTINEL", "SENTINELS", MASTER]);
                let can_follow = |replica: &Reply| {
                    let words: Vec<_> = replica.parts().iter().map(Reply::text).collect();
                    let is = |name: &str, value: &str| {
                        words
                            .chunks(2)
                            .any(|pair| pair[0] == name && pair[1] == value)
                    };
                    is("flags", "slave") && is("master-link-status", "ok")
                };
                replicas.parts().iter().any(can_follow)
                    && others.parts().len() + 1 == self.sentinels.len()
            };
            self.sentinels.iter().all(ready).then_some(())
        });
    }

    /// Waits until the replica has everything that the master had when this was called.
    pub(crate) fn wait_replicated(&self) {
        let port = self.master_port();
        let mut servers = self.servers.iter();
        let master = servers.find(|server| server.port == port);
        let mut connection = master.expect("the master is one of ours").connect();
        // It waits for the last write of its own connection.
        done(&connection.ask(&["SET", "replicated", "1"]).unwrap());
        wait_until("the replica has everything", || {
            let replicas = connection.ask(&["WAIT", "1", "5000"]).unwrap();
            (replicas == Reply::Integer(1)).then_some(())
        });
    }

    /// Returns whom a sentinel holds for the master.
    pub(crate) fn master_port(&self) -> u16 {
        let address = self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        address.parts()[1].text().parse().unwrap()
    }

    /// Asks for a failover although the master lives; waits until another one is master.
    pub(crate) fn failover(&self) {
        let before = self.master_port();
        // A sentinel gives up a failover that takes long, and goes back to the master of before: it is asked again.
        wait_until("there is another master for good", || {
            if self.master_port() == before {
                self.sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER]);
            }
            self.is_other_than(before).then_some(())
        });
    }

    /// Kills the master with SIGKILL; returns its place among the servers. The sentinels find out by themselves.
    pub(crate) fn kill_master(&mut self) -> usize {
        let port = self.master_port();
        let place = self.servers.iter().position(|server| server.port == port);
        let place = place.expect("the master is one of ours");
        self.servers[place].kill();
        place
    }

    /// Waits until somebody else than `before` is master and says so itself.
    pub(crate) fn wait_other_than(&self, before: u16) {
        wait_until("there is another master", || {
            self.is_other_than(before).then_some(())
        });
    }

    /// Returns whether somebody else than `before` is master, says so itself, and no failover is under way that could be
    /// given up.
    fn is_other_than(&self, before: u16) -> bool {
        let known = self.sentinels[0].ask(&["SENTINEL", "MASTER", MASTER]);
        let words: Vec<_> = known.parts().iter().map(Reply::text).collect();
        let moves = words
            .iter()
            .any(|word| word.contains("failover_in_progress"));
        let now = self.master_port();
        let server = self.servers.iter().find(|server| server.port == now);
        let is_master = |server: &RedisServer| server.info("role") == "master";
        !moves && now != before && server.is_some_and(is_master)
    }

    pub(crate) fn url(&self) -> String {
        let all: Vec<_> = self
            .sentinels
            .iter()
            .map(|s| format!("127.0.0.1:{}", s.port))
            .collect();
        format!("redis+sentinel://{}/{MASTER}", all.join(","))
    }
}

#[track_caller]
fn done(reply: &Reply) {
    assert_eq!(*reply, Reply::Status("OK".to_owned()));
}
