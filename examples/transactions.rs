//! Transactions of a program's own database: an order and its shipping are written together or not at all.
//!
//! The shop's database has an outbox, so that the task that ships an order is enqueued in the transaction that places it. An
//! order that cannot be met is rolled back, and nobody hears of it.
//!
//! `cargo run --example transactions`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(missing_docs, reason = "`table!` makes modules that are public")]

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::client::WaitError;
use celeriac::database::{Database, Transactional as _, outbox};
use celeriac::policy::seconds;
use celeriac::producer::EnqueueOptions;
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::task::TaskError;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool};
use serde::{Deserialize, Serialize};

diesel::table! {
    stock (fruit) { fruit -> Text, left_over -> Integer }
}

diesel::table! {
    orders (id) { id -> BigInt, fruit -> Text, amount -> Integer, state -> Text, fence -> BigInt }
}

#[derive(Serialize, Deserialize)]
struct Place {
    order: i64,
    amount: i32,
}
celeriac::task!(Place as "shop.place" -> i32);

#[derive(Serialize, Deserialize)]
struct Ship {
    order: i64,
}
celeriac::task!(Ship as "shop.ship");

async fn place(place: Attempt<Place>) -> Result<i32, TaskError> {
    let Place { order, amount } = place.args;
    let placed = place.transaction(move |conn: &mut SqliteConnection, tx| {
        let new = (
            orders::id.eq(order),
            orders::fruit.eq("apple"),
            orders::amount.eq(amount),
            orders::state.eq("placed"),
            orders::fence.eq(0),
        );
        let added = diesel::insert_or_ignore_into(orders::table).values(new);
        let apples = stock::table.find("apple");
        if added.execute(conn)? == 0 {
            // A former attempt placed it, and could not say so.
            return Ok(apples.select(stock::left_over).first(conn)?);
        }
        tx.enqueue(&Ship { order })?;
        diesel::update(apples)
            .set(stock::left_over.eq(stock::left_over - amount))
            .execute(conn)?;
        let left: i32 = apples.select(stock::left_over).first(conn)?;
        if left < 0 {
            let missing = format!("{} apples are missing", -left);
            return Err(TaskError::permanent(missing));
        }
        Ok(left)
    });
    placed.await
}

async fn ship(ship: Attempt<Ship>) -> Result<(), TaskError> {
    let (order, token) = (ship.args.order, i64::try_from(ship.fencing_token())?);
    let shipped = ship.transaction(move |conn: &mut SqliteConnection, _| {
        // Only who holds the task now may write: a worker that was thought dead has a smaller token.
        let ours = orders::table.find(order).filter(orders::fence.le(token));
        let set = (orders::state.eq("shipped"), orders::fence.eq(token));
        match diesel::update(ours).set(set).execute(conn)? {
            0 => Err("a later holder of this task has written the order".into()),
            _ => Ok(()),
        }
    });
    shipped.await
}

/// What each connection is told: wait for locks instead of failing.
#[derive(Debug)]
struct Patient;

impl CustomizeConnection<SqliteConnection, Error> for Patient {
    fn on_acquire(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;";
        conn.batch_execute(pragmas).map_err(Error::QueryError)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("shop.db");
    let pool = Pool::builder()
        .max_size(4)
        .connection_customizer(Box::new(Patient))
        .build(ConnectionManager::<SqliteConnection>::new(
            file.to_string_lossy(),
        ))?;
    let conn = &mut *pool.get()?;
    outbox::create(conn)?;
    conn.batch_execute(
        "CREATE TABLE stock (fruit TEXT PRIMARY KEY, left_over INTEGER NOT NULL);
         CREATE TABLE orders (id BIGINT PRIMARY KEY, fruit TEXT NOT NULL, amount INTEGER NOT NULL,
                              state TEXT NOT NULL, fence BIGINT NOT NULL);
         INSERT INTO stock VALUES ('apple', 10);",
    )?;

    let app = App::new()
        .database(Database::new(pool.clone()).with_outbox())
        .task(place)
        .task(ship);
    let runtime = Runtime::start(
        app,
        RuntimeOptions::embedded(directory.path().join("data"))?,
    )?;
    let client = runtime.client();

    for (order, amount) in [(1, 7), (2, 5)] {
        let options = EnqueueOptions::default().want_outcome();
        let placed = client
            .enqueue_with(&Place { order, amount }, options)
            .await?;
        match client.wait::<Place>(&placed, seconds(10)).await {
            Ok(left) => println!("order {order} was placed: {left} apples are left"),
            Err(WaitError::Dead {
                failure: Some(failure),
                ..
            }) => println!("order {order} was rolled back: {}", failure.message),
            Err(other) => return Err(other.into()),
        }
    }

    // A row by plain SQL is a task as well: here, of an order that was never placed.
    diesel::sql_query(r#"INSERT INTO celeriac_outbox (task, args) VALUES ('shop.place', '{"order": 3, "amount": 3}')"#)
        .execute(conn)?;
    let shipped = orders::table.filter(orders::state.eq("shipped"));
    while shipped.count().get_result::<i64>(conn)? < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let all: Vec<(i64, i32)> = shipped
        .order(orders::id)
        .select((orders::id, orders::amount))
        .load(conn)?;
    for (order, amount) in all {
        println!("order {order} was shipped: {amount} apples");
    }

    runtime.stop(seconds(5)).await;
    Ok(())
}
