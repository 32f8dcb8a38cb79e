//! What is special about PostgreSQL: bounds on how long its server may keep us, and errors without its password.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{CustomizeConnection, Error};

use super::connections::Dialect;
use super::fault::Fault;

/// The advisory lock of the migrations: the first eight bytes of `celeriac`.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"celeriac");

/// The advisory lock of whoever changes dead letters.
const WRITER_LOCK: i64 = i64::from_be_bytes(*b"celeridl");

/// What every connection is told.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) timeout: Duration,
}

impl CustomizeConnection<PgConnection, Error> for Session {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), Error> {
        // A lock is waited for about as long as a connection; a statement that runs for a minute is not one of ours.
        let settings = format!(
            "SET lock_timeout = {}; SET statement_timeout = 60000; SET client_min_messages = warning;",
            self.timeout.as_millis()
        );
        connection
            .batch_execute(&settings)
            .map_err(Error::QueryError)
    }
}

impl Dialect for PgConnection {
    fn writing<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.transaction(|connection| {
            // Every change touches counts that others share, in an order of its own: one writer at a time, as in SQLite.
            connection.batch_execute(&format!("SELECT pg_advisory_xact_lock({WRITER_LOCK})"))?;
            step(connection)
        })
    }

    fn snapshot<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.build_transaction()
            .read_only()
            .repeatable_read()
            .run(step)
    }

    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.transaction(|connection| {
            // The wait ends with the statement's bound; what runs behind the lock has none.
            let lock = format!(
                "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); \
                 SET LOCAL statement_timeout = 0;"
            );
            connection.batch_execute(&lock)?;
            step(connection)
        })
    }

    fn one_writer(&mut self, table: &'static str) -> Result<(), Fault> {
        self.batch_execute(&format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))?;
        Ok(())
    }

    fn probe(&mut self) -> Result<(), Fault> {
        // What every write of ours takes; a server that only reads refuses it, one that is locked keeps it waiting.
        self.transaction(|connection| {
            connection.batch_execute("LOCK TABLE dead_letters IN ROW EXCLUSIVE MODE")?;
            Ok(())
        })
    }

    fn numbers_parameters(&self) -> bool {
        true
    }

    fn has_table(&mut self, name: &str) -> QueryResult<bool> {
        use diesel::dsl::sql;
        use diesel::sql_types::{Bool, Text};

        diesel::select(
            sql::<Bool>("to_regclass(")
                .bind::<Text, _>(name)
                .sql(") IS NOT NULL"),
        )
        .get_result(self)
    }
}

/// Returns the URL with bounds on connecting and on silence, where it has none of its own.
pub(super) fn with_timeouts(url: &str, timeout: Duration) -> String {
    let mut out = url.to_owned();
    let connect = timeout.as_secs().max(2).to_string();
    for (name, value) in [
        ("connect_timeout", connect.as_str()),
        ("keepalives_idle", "10"),
        ("keepalives_interval", "5"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "30000"),
        ("application_name", "celeriac"),
    ] {
        if !url.contains(&format!("{name}=")) {
            out.push(if out.contains('?') { '&' } else { '?' });
            out.push_str(name);
            out.push('=');
            out.push_str(value);
        }
    }
    out
}

/// What must not appear in an error: passwords, as they were written and as they are meant.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Finds the secrets of a URL.
    pub(super) fn of(url: &str) -> Self {
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
        let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
        let mut written: Vec<&str> = user
            .split_once(':')
            .map(|(_, secret)| secret)
            .into_iter()
            .collect();
        written.extend(query.split('&').filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.contains("password").then_some(value)
        }));
        let meant = written.iter().map(|secret| decoded(secret));
        let mut all: Vec<String> = meant.collect();
        all.extend(written.iter().map(|secret| (*secret).to_owned()));
        all.retain(|secret| !secret.is_empty());
        Self(all)
    }

    /// Returns `text` without secrets. What libpq says of a URL that it cannot read is dropped: it quotes pieces of it.
    pub(super) fn scrub(&self, text: &str) -> String {
        let quotes = ["URI", "connection option", "percent-encoded", "://"];
        if quotes.iter().any(|quote| text.contains(quote)) {
            return "the URL cannot be read; characters such as `@`, `/` and `#` in a user or \
                    password must be percent-encoded"
                .to_owned();
        }
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "***")
        })
    }
}

/// Returns text with its percent-encoded bytes decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_added_where_the_url_has_none() {
        let url = with_timeouts("postgres://h/db?connect_timeout=1", Duration::from_secs(5));
        assert!(url.starts_with("postgres://h/db?connect_timeout=1&keepalives_idle=10&"));
        assert_eq!(url.matches("connect_timeout").count(), 1);
    }

    #[test]
    fn secrets_are_scrubbed_in_both_forms() {
        let secrets = Secrets::of("postgres://u:p%40ss@h/db?sslpassword=other");
        assert_eq!(
            secrets.scrub("tried p@ss, p%40ss and other"),
            "tried ***, *** and ***"
        );
        assert!(
            !secrets
                .scrub("missing \"=\" after \"p@s\" in URI")
                .contains("p@s")
        );
    }
}
