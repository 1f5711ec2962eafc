//! Questions about one row, one actor, one correlation id.

use serde_json::json;
use threadline::{
    ActorRef, ActorType,
    query::{
        Filter, Key, PageRequest, Table, Window,
        row::{At, Row, RowPage},
    },
};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{
    QUESTION, Served,
    data::Rows,
    library::{self, Stated},
    timing::{alone, beside},
};
use crate::cases::Bench;

const TABLE: &str = "orders";

/// How many keys, actors and ids are asked for.
const VALUES: u32 = 100;

/// The time of the first change.
const BEGUN: OffsetDateTime = datetime!(2026-03-01 00:00 UTC);

/// Between two transactions.
const PACE: Duration = Duration::seconds(17);

/// Every question.
pub(super) async fn take(
    bench: &mut Bench<'_>,
    served: &mut Served,
    rows: Rows,
    repeat: u32,
) -> anyhow::Result<()> {
    of_rows(bench, served, rows, repeat).await?;
    correlation(bench, served, rows, repeat).await?;
    actor_history(bench, served, repeat).await
}

fn named(question: &str) -> String {
    format!("{QUESTION}{question}")
}

async fn of_rows(bench: &mut Bench<'_>, served: &mut Served, rows: Rows, repeat: u32) -> anyhow::Result<()> {
    let keys: Vec<String> = (0..VALUES).map(key).collect();
    let table = Table { schema: Some("public".to_owned()), name: TABLE.to_owned() };
    let (reader, connection) = (&served.reader, &mut served.library);
    let find = async |number: u32| {
        reader.row(&table, &Key::Value(keys[(number % VALUES) as usize].clone())).await?;
        Ok(())
    };
    alone(bench, (&named("a row is found"), repeat), find).await?;
    let mut found: Vec<Row> = Vec::new();
    for key in &keys {
        found.push(reader.row(&table, &Key::Value(key.clone())).await?);
    }
    let stated = |at: Option<OffsetDateTime>, number: u32| {
        library::of_row(TABLE, &json!({"id": keys[(number % VALUES) as usize]}), at)
    };
    let row = |number: u32| &found[(number % VALUES) as usize];
    let page = RowPage::default();
    for number in [0, VALUES - 1] {
        let read = reader.row_history(row(number), &page).await?;
        let ids: Vec<Uuid> = read.changes.iter().map(|change| change.id).collect();
        let theirs = stated(None, number).read(connection).await?;
        library::same("row history", &ids, &theirs, page.size)?;
    }
    let history = async |number: u32| {
        reader.row_history(row(number), &page).await?;
        Ok(())
    };
    let theirs = async |number: u32| stated(None, number).read(connection).await.map(drop);
    beside(bench, (&named("row history, the newest 200"), repeat), history, theirs).await?;
    let at = |number: u32| {
        let share = u64::from(number * 37 % VALUES);
        BEGUN + PACE * i32::try_from(rows.transactions * share / u64::from(VALUES)).unwrap_or(i32::MAX)
    };
    let as_of = async |number: u32| {
        reader.as_of(row(number), &At::from(at(number))).await?;
        Ok(())
    };
    let theirs = async |number: u32| stated(Some(at(number)), number).read(connection).await.map(drop);
    beside(bench, (&named("as of a time"), repeat), as_of, theirs).await
}

/// Two of a hundred rows have been changed very often.
fn key(number: u32) -> String {
    if number % 50 == 49 { "1".to_owned() } else { (2 * (1 + number * 97 % 25_000)).to_string() }
}

async fn correlation(
    bench: &mut Bench<'_>,
    served: &mut Served,
    rows: Rows,
    repeat: u32,
) -> anyhow::Result<()> {
    // As many as both transactions and actions have.
    let ids = rows.transactions / 11 - 10;
    let filters = (0..u64::from(VALUES)).map(|n| format!("correlation:c{}", n * 7_919 % ids).parse());
    let filters = filters.collect::<Result<Vec<Filter>, _>>()?;
    let request = PageRequest::default();
    let stated = filters.iter().filter_map(|filter| library::page(filter, request.size, None));
    let stated: Vec<Stated> = stated.collect();
    let (reader, connection) = (&served.reader, &mut served.library);
    let ours = async |number: u32| {
        reader.page(&filters[(number % VALUES) as usize], &request).await?;
        Ok(())
    };
    let theirs = async |number: u32| stated[(number % VALUES) as usize].read(connection).await.map(drop);
    beside(bench, (&named("correlation"), repeat), ours, theirs).await
}

async fn actor_history(bench: &mut Bench<'_>, served: &mut Served, repeat: u32) -> anyhow::Result<()> {
    // One in ten reads is of an actor who wrote a third of everything.
    let name = |n: u32| match n % 10 {
        0 => "frequent".to_owned(),
        1 => "middle".to_owned(),
        _ => format!("u{}", n * 47 % 5_003),
    };
    let actors = (0..VALUES).map(|n| ActorRef::new(ActorType::User, Some(name(n))));
    let actors = actors.collect::<Result<Vec<ActorRef>, _>>()?;
    let stated: Vec<Stated> = actors.iter().map(|actor| library::of_actor(&actor.to_json())).collect();
    let request = PageRequest::default();
    let (reader, connection) = (&served.reader, &mut served.library);
    let ours = async |number: u32| {
        let actor = &actors[(number % VALUES) as usize];
        reader.actor_history(actor, Window::Everything, &request).await?;
        Ok(())
    };
    let theirs = async |number: u32| stated[(number % VALUES) as usize].read(connection).await.map(drop);
    beside(bench, (&named("actor history"), repeat), ours, theirs).await
}
