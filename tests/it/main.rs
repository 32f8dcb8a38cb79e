//! The integration tests: one binary, one file per subject.

#![expect(clippy::unwrap_used, reason = "a test ends by its panic")]

mod apart;
mod breakers;
mod cli_bench;
mod cli_breaker;
mod cli_dead;
mod cli_dead_canary;
mod cli_dead_edit;
mod cli_dead_files;
mod cli_dead_support;
mod cli_doctor;
mod cli_enqueue;
mod cli_explain;
mod cli_init;
mod cli_look;
mod cli_migrate;
#[cfg(feature = "redis")]
mod cli_results;
mod cli_revoke;
mod cli_rights;
mod cli_support;
mod commands;
mod crash;
mod daemon;
mod demo;
mod examples;
mod faults;
mod giving_up;
mod golden;
mod health;
mod hooks;
mod http_api;
mod http_guard;
mod http_health;
mod http_life;
mod http_support;
mod isolation;
mod ledger;
mod life_cycle;
mod many_ends;
mod outbox;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod ports;
mod recycling;
#[cfg(feature = "redis")]
mod redis_conformance;
#[cfg(feature = "redis")]
mod redis_cuts;
#[cfg(feature = "redis")]
mod redis_harness;
#[cfg(feature = "redis")]
mod redis_load;
#[cfg(feature = "redis")]
mod redis_memory;
#[cfg(feature = "redis")]
mod redis_outages;
#[cfg(feature = "redis")]
mod redis_processes;
#[cfg(feature = "redis")]
mod redis_proxy;
#[cfg(feature = "redis")]
mod redis_resp;
#[cfg(feature = "redis")]
mod redis_server;
#[cfg(feature = "redis")]
mod redis_shared;
#[cfg(feature = "redis")]
mod redis_storms;
#[cfg(feature = "redis")]
mod redis_topology;
#[cfg(feature = "redis")]
mod redis_wakes;
#[cfg(feature = "redis")]
mod redis_works;
mod sensitive;
#[cfg(feature = "redis")]
mod spool;
#[cfg(feature = "redis")]
mod spool_cli;
#[cfg(feature = "redis")]
mod spool_rejected;
mod sqlite_conformance;
mod sqlite_faults;
mod sqlite_opening;
mod sqlite_processes;
mod sqlite_support;
mod stops;
mod store_changes;
mod store_clusters;
mod store_faults;
mod store_letters;
mod store_migrations;
#[cfg(feature = "postgres")]
mod store_postgres;
mod store_snapshots;
mod store_stats;
mod store_support;
mod tidy;
mod transactions;
