//! The form of the data: a number that whoever comes first writes, so that no other version takes them for its own.

use redis::Value;

use super::unable;
use crate::redis::keys::{Keys, slot};
use crate::redis::link::Links;
use crate::redis::options::{OpenError, RedisOptions};
use crate::redis::topology::slots::text;

/// The form that this version writes and reads.
const FORM: &str = "1";

/// Writes the form where there is none; refuses another one. A server that takes no writes now is not asked to: its data,
/// if any, have a form.
pub(super) async fn check(links: &Links, options: &RedisOptions) -> Result<(), OpenError> {
    let key = Keys::new(options.url.namespace()).schema();
    let mut read = redis::cmd("GET");
    read.arg(&key);
    let found = links.send(slot(&key), &read).await;
    let found = match found.map_err(|fault| unable(options, fault))? {
        Value::Nil => {
            let mut write = redis::cmd("SET");
            write.arg(&key).arg(FORM).arg("NX").arg("GET");
            match links.send(slot(&key), &write).await {
                Ok(found) => found,
                Err(_) => return Ok(()),
            }
        }
        found => found,
    };
    match text(&found) {
        None | Some(FORM) => Ok(()),
        Some(found) => Err(OpenError::Form {
            namespace: options.url.namespace().to_owned(),
            found: found.to_owned(),
        }),
    }
}
