//! The integration tests: one binary, one file per subject.

#![expect(clippy::unwrap_used, reason = "a test ends by its panic")]

mod sqlite_conformance;
mod sqlite_faults;
mod sqlite_opening;
mod sqlite_processes;
mod sqlite_support;
