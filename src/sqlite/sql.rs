//! Prepared SQL through Diesel: a statement is a static text and its values, prepared once per connection.
//!
//! Diesel's own `sql_query` prepares its text anew at every use, which costs more than most of our statements. [`Sql`]
//! is keyed by its text in Diesel's statement cache instead, so texts must be a bounded set: never format one.
//!
//! Texts number their parameters (`?1`). Diesel writes a bare `?` for each value it is told of; those land in a comment
//! at the end of the text, so that one text may use a value twice and needs no cutting up.

use std::ops::ControlFlow;

use diesel::connection::{DefaultLoadingMode, LoadConnection, SimpleConnection};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::row::{Field, Row};
use diesel::sql_types::{BigInt, Binary, Text, Untyped};
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel::{Connection, RunQueryDsl};

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// Bytes.
    Blob(&'a [u8]),
    /// Text.
    Text(&'a str),
}

/// A statement with its values.
#[derive(Clone, Copy, Debug)]
struct Sql<'a> {
    text: &'static str,
    values: &'a [Value<'a>],
}

impl QueryFragment<Sqlite> for Sql<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.text);
        out.push_sql(" --");
        for value in self.values {
            match value {
                Value::Int(number) => out.push_bind_param::<BigInt, i64>(number)?,
                Value::Blob(bytes) => out.push_bind_param::<Binary, &[u8]>(bytes)?,
                Value::Text(text) => out.push_bind_param::<Text, &str>(text)?,
            }
        }
        Ok(())
    }
}

impl QueryId for Sql<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Sql<'_> {
    type SqlType = Untyped;
}

impl<C> RunQueryDsl<C> for Sql<'_> {}

/// One row of a result, read by position. NULL reads as zero or as empty.
pub(crate) struct Columns<'stmt, 'query>(
    <SqliteConnection as LoadConnection<DefaultLoadingMode>>::Row<'stmt, 'query>,
);

impl Columns<'_, '_> {
    /// Returns column `at` as a whole number.
    pub(crate) fn int(&self, at: usize) -> i64 {
        let field = self.0.get(at);
        field
            .as_ref()
            .and_then(Field::value)
            .map_or(0, |mut value| value.read_long())
    }

    /// Returns column `at` as a number that is never negative.
    pub(crate) fn count(&self, at: usize) -> u64 {
        u64::try_from(self.int(at)).unwrap_or_default()
    }

    /// Returns whether column `at` is neither NULL nor zero.
    pub(crate) fn flag(&self, at: usize) -> bool {
        self.int(at) != 0
    }

    /// Calls `read` with the bytes of column `at`.
    pub(crate) fn with_blob<T>(&self, at: usize, read: impl FnOnce(&[u8]) -> T) -> T {
        let field = self.0.get(at);
        match field.as_ref().and_then(Field::value) {
            Some(mut value) => read(value.read_blob()),
            None => read(&[]),
        }
    }

    /// Returns column `at` as bytes.
    pub(crate) fn blob(&self, at: usize) -> Vec<u8> {
        self.with_blob(at, <[u8]>::to_vec)
    }

    /// Returns column `at` as sixteen bytes; zeros when it has another length.
    pub(crate) fn id(&self, at: usize) -> [u8; 16] {
        self.with_blob(at, |bytes| bytes.try_into().unwrap_or_default())
    }

    /// Returns column `at` as text.
    pub(crate) fn text(&self, at: usize) -> String {
        let field = self.0.get(at);
        field
            .as_ref()
            .and_then(Field::value)
            .map_or_else(String::new, |mut value| value.read_text().to_owned())
    }
}

/// A connection that runs [`Sql`].
pub(crate) struct Db {
    connection: SqliteConnection,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database at `path`, creating it where it is missing.
    pub(crate) fn connect(path: &str) -> diesel::ConnectionResult<Self> {
        SqliteConnection::establish(path).map(|connection| Self { connection })
    }

    /// Runs statements that are not worth keeping prepared.
    pub(crate) fn batch(&mut self, text: &str) -> QueryResult<()> {
        self.connection.batch_execute(text)
    }

    /// Runs a statement that returns no rows; returns how many rows it changed.
    pub(crate) fn run(&mut self, text: &'static str, values: &[Value<'_>]) -> QueryResult<usize> {
        self.connection
            .execute_returning_count(&Sql { text, values })
    }

    /// Runs a query and hands each row to `take` until it breaks off.
    pub(crate) fn each(
        &mut self,
        text: &'static str,
        values: &[Value<'_>],
        mut take: impl FnMut(&Columns<'_, '_>) -> ControlFlow<()>,
    ) -> QueryResult<()> {
        for row in self.connection.load(Sql { text, values })? {
            if take(&Columns(row?)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Runs a query and returns what `read` makes of each row.
    pub(crate) fn all<T>(
        &mut self,
        text: &'static str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Columns<'_, '_>) -> T,
    ) -> QueryResult<Vec<T>> {
        let mut found = Vec::new();
        self.each(text, values, |row| {
            found.push(read(row));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Runs a query and returns what `read` makes of its first row, if there is one.
    pub(crate) fn first<T>(
        &mut self,
        text: &'static str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Columns<'_, '_>) -> T,
    ) -> QueryResult<Option<T>> {
        let mut found = None;
        self.each(text, values, |row| {
            found = Some(read(row));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Runs a query whose only value is one number; 0 when there is no row.
    pub(crate) fn number(&mut self, text: &'static str) -> QueryResult<i64> {
        Ok(self.first(text, &[], |row| row.int(0))?.unwrap_or_default())
    }
}

/// Returns `number` as SQLite stores it; what is beyond 2^63 becomes that.
pub(crate) fn int(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_texts_are_reused() {
        let mut db = Db::connect(":memory:").unwrap();
        db.batch("CREATE TABLE t (a INTEGER, b BLOB, c TEXT)")
            .unwrap();
        let insert = "INSERT INTO t VALUES (?1, ?2, ?3), (?1 + 1, ?2, 'x')";
        for n in 0..3 {
            let values = [Value::Int(n), Value::Blob(b"\0bytes"), Value::Text("text")];
            assert_eq!(db.run(insert, &values).unwrap(), 2);
        }
        let rows = db.all(
            "SELECT a, b, c FROM t WHERE a = ?1 AND c = 'text'",
            &[Value::Int(2)],
            |row| (row.int(0), row.blob(1), row.text(2)),
        );
        assert_eq!(rows.unwrap(), [(2, b"\0bytes".to_vec(), "text".to_owned())]);
        assert_eq!(db.number("SELECT count(*) FROM t").unwrap(), 6);
    }
}
