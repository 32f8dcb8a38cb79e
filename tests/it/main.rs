//! The integration tests: one binary, one file per subject.

#![expect(clippy::unwrap_used, reason = "a test ends by its panic")]

mod cli_bench;
mod cli_dead;
mod cli_dead_support;
mod cli_doctor;
mod cli_enqueue;
mod cli_init;
mod cli_look;
mod cli_migrate;
mod cli_support;
mod crash;
mod daemon;
mod demo;
mod examples;
mod faults;
mod golden;
mod life_cycle;
mod sqlite_conformance;
mod sqlite_faults;
mod sqlite_opening;
mod sqlite_processes;
mod sqlite_support;
mod store_changes;
mod store_faults;
mod store_letters;
mod store_migrations;
#[cfg(feature = "postgres")]
mod store_postgres;
mod store_stats;
mod store_support;
mod tidy;
