//! What operators change, and the documents in which they see things, for the command line and HTTP alike. What is read from
//! outside is read by [`crate::look`]. Prints nothing and knows no protocol.

pub(crate) mod breakers;
pub(crate) mod census;
pub(crate) mod dead;
pub(crate) mod enqueue;
pub(crate) mod fault;
pub(crate) mod keeper;
pub(crate) mod letter;
pub(crate) mod overview;
pub(crate) mod purge;
pub(crate) mod queues;
pub(crate) mod revoke;
pub(crate) mod task_view;
pub(crate) mod tasks;
pub(crate) mod text;
pub(crate) mod values;
pub(crate) mod when;
pub(crate) mod workers;

use crate::app::App;
use crate::config::Config;

/// Adds the commands of a configuration to a program.
pub(crate) fn with_commands(app: App, config: &Config) -> App {
    config.commands.iter().cloned().fold(app, App::command)
}
