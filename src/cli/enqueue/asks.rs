//! What is asked for one task instead of what its kind says, as flags.

use std::collections::BTreeMap;

use clap::Args;

use super::super::text::brief;
use crate::admin::enqueue::asks::{Asks, limit, mode, moment, pair};

/// The flags.
#[derive(Args, Clone, Debug)]
pub(super) struct AskArgs {
    /// Do not start it later than this, a span such as `1h` or an instant such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "SPAN|RFC3339", allow_hyphen_values = true)]
    expires: Option<String>,
    /// Begin no further attempt later than this; the first one is made all the same. A span counts from when it is due.
    #[arg(long, value_name = "SPAN|RFC3339", allow_hyphen_values = true)]
    retry_until: Option<String>,
    /// Ask an attempt to stop after this long, such as `5m`.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true)]
    soft_limit: Option<String>,
    /// End an attempt after this long, such as `6m`.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true)]
    hard_limit: Option<String>,
    /// Make so many attempts at most, the first one included.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u16>,
    /// Run it `inline`, `blocking` (on a thread that may be blocked) or `isolated` (in a process of its own).
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Attach a text to it, such as `tenant=7`; may be given often.
    #[arg(long = "header", id = "headers", value_name = "KEY=VALUE")]
    headers: Vec<String>,
}

impl AskArgs {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(super) fn read(&self) -> Result<Asks, String> {
        let mut headers = BTreeMap::new();
        for text in &self.headers {
            let (key, value) = pair(text)?;
            if headers.insert(key.clone(), value).is_some() {
                return Err(format!("the header `{}` is given twice", brief(&key, 60)));
            }
        }
        Ok(Asks {
            expires: moment("--expires", self.expires.as_deref())?,
            retry_until: moment("--retry-until", self.retry_until.as_deref())?,
            soft_limit: limit("--soft-limit", self.soft_limit.as_deref())?,
            hard_limit: limit("--hard-limit", self.hard_limit.as_deref())?,
            max_attempts: self.max_attempts,
            mode: mode("--mode", self.mode.as_deref())?,
            headers,
        })
    }
}
