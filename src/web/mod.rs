//! The HTTP API of the daemon: probes, reads and changes, a stream of events, and the document that describes them.
//!
//! It runs on threads of its own, outside the tree: it answers before the tree is there, and until everything else has
//! ended. What it does with broker and store is in `admin`, which the command line uses too; this module knows HTTP.
//! Every route is a row of a table ([`routes`]), from which the server, its guard and the OpenAPI document are made.

mod asked;
mod body;
mod breakers;
mod cursor;
mod dead;
mod dead_changes;
mod events;
mod guard;
mod health;
mod listen;
mod look;
mod openapi;
mod params;
mod probes;
mod problem;
mod queues;
mod revocations;
mod routes;
mod scheduled;
mod server;
mod slowdown;
mod state;
mod tasks;
mod tokens;

pub(crate) use self::events::Hub;
pub(crate) use self::server::Web;
pub(crate) use self::state::{Ground, Work};
