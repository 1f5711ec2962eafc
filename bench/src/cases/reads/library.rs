//! What the Elixir library asks its tables for, in statements written for this comparison after what its functions do.

use std::fmt::Write as _;

use anyhow::ensure;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use threadline::query::{Filter, Kind};
use time::OffsetDateTime;
use uuid::Uuid;

const CHANGE: &str = "c.id, c.transaction_id, c.table_schema, c.table_name, c.table_pk, c.op, c.data_after, c.changed_fields, \
                      c.changed_from, c.captured_at";
const TRANSACTION: &str = "t.id, t.txid, t.occurred_at, t.source, t.meta, t.actor_ref, t.action_id";
const ACTION: &str = "a.id, a.name, a.actor_ref, a.status, a.verb, a.category, a.reason, a.comment, a.correlation_id, a.request_id, \
                      a.job_id, a.inserted_at";
const FROM: &str =
    "from library.audit_changes c join library.audit_transactions t on t.id = c.transaction_id";

/// A value of a parameter.
#[derive(Debug, Clone)]
enum Given {
    Text(String),
    Json(Value),
    Time(OffsetDateTime),
    Id(Uuid),
}

/// A statement with its values. It is prepared once, as the library's driver does.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    text: String,
    given: Vec<Given>,
}

/// A place in the list of changes.
pub(super) type Place = (OffsetDateTime, Uuid);

/// A page of the timeline, where the library can ask for what the filter says.
pub(super) fn page(filter: &Filter, size: u16, behind: Option<Place>) -> Option<Stated> {
    let mut stated = timeline(filter, CHANGE)?;
    if let Some((at, id)) = behind {
        stated.and("(c.captured_at, c.id) <", &[Given::Time(at), Given::Id(id)]);
    }
    let _ = write!(stated.text, " order by c.captured_at desc, c.id desc limit {}", size + 1);
    Some(stated)
}

/// Places of pages from this one on.
pub(super) async fn places(
    connection: &mut PgConnection,
    filter: &Filter,
    (size, page, count): (u16, u32, u32),
) -> anyhow::Result<Vec<Place>> {
    let Some(mut stated) = timeline(filter, "c.captured_at, c.id") else { return Ok(Vec::new()) };
    let (size, before) = (usize::from(size), u32::from(size) * (page - 1) - 1);
    let limit = u32::try_from(size)? * count;
    let _ = write!(stated.text, " order by c.captured_at desc, c.id desc offset {before} limit {limit}");
    let rows = stated.query().fetch_all(connection).await?;
    rows.iter().step_by(size).map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn timeline(filter: &Filter, columns: &str) -> Option<Stated> {
    let known = Filter {
        kind: filter.kind.filter(|kind| *kind == Kind::Change),
        table: filter.table.clone().filter(|table| table.schema.is_none()),
        actor: filter.actor.clone(),
        correlation: filter.correlation.clone(),
        ..Filter::default()
    };
    if known != *filter {
        return None;
    }
    let mut stated = Stated { text: format!("select {columns} {FROM}"), given: Vec::new() };
    if filter.correlation.is_some() {
        stated.text.push_str(" join library.audit_actions a on a.id = t.action_id");
    }
    stated.text.push_str(" where true");
    if let Some(table) = known.table {
        stated.and("c.table_name =", &[Given::Text(table.name)]);
    }
    if let Some(actor) = known.actor {
        stated.and("t.actor_ref @>", &[Given::Json(actor.to_json())]);
    }
    if let Some(correlation) = known.correlation {
        stated.and("a.correlation_id =", &[Given::Text(correlation)]);
    }
    Some(stated)
}

/// The changes of a row; up to a time the newest one alone.
pub(super) fn of_row(table: &str, key: &Value, at: Option<OffsetDateTime>) -> Stated {
    let (columns, from) = if at.is_some() {
        (CHANGE.to_owned(), "from library.audit_changes c".to_owned())
    } else {
        let join = "left join library.audit_actions a on a.id = t.action_id";
        (format!("{CHANGE}, {TRANSACTION}, {ACTION}"), format!("{FROM} {join}"))
    };
    let mut stated = Stated { text: format!("select {columns} {from} where true"), given: Vec::new() };
    stated.and("c.table_schema =", &[Given::Text("public".to_owned())]);
    stated.and("c.table_name =", &[Given::Text(table.to_owned())]);
    stated.and("c.table_pk =", &[Given::Json(key.clone())]);
    if let Some(at) = at {
        stated.and("c.captured_at <=", &[Given::Time(at)]);
    }
    let limit = if at.is_some() { 1 } else { 201 };
    let _ = write!(stated.text, " order by c.captured_at desc, c.id desc limit {limit}");
    stated
}

/// The newest transactions of an actor.
pub(super) fn of_actor(actor: &Value) -> Stated {
    let text = format!("select {TRANSACTION} from library.audit_transactions t where true");
    let mut stated = Stated { text, given: Vec::new() };
    stated.and("t.actor_ref @>", &[Given::Json(actor.clone())]);
    stated.text.push_str(" order by t.occurred_at desc, t.id desc limit 51");
    stated
}

impl Stated {
    /// One more condition; several values are compared as a row.
    fn and(&mut self, condition: &str, given: &[Given]) {
        let first = self.given.len() + 1;
        self.given.extend_from_slice(given);
        let numbers: Vec<String> = (first..=self.given.len()).map(|number| format!("${number}")).collect();
        let _ = write!(self.text, " and {condition} ({})", numbers.join(", "));
    }

    fn query(&self) -> Query<'_, Postgres, PgArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text.clone()));
        self.given.iter().fold(query, |query, given| match given {
            Given::Text(text) => query.bind(text),
            Given::Json(value) => query.bind(value),
            Given::Time(time) => query.bind(time),
            Given::Id(id) => query.bind(id),
        })
    }

    /// Runs it and reads every column of its changes or transactions, as our reads do.
    pub(super) async fn read(&self, connection: &mut PgConnection) -> anyhow::Result<Vec<Uuid>> {
        let rows = self.query().fetch_all(connection).await?;
        rows.iter()
            .map(|row| Ok(if self.is_of_changes() { change(row)? } else { transaction(row)? }))
            .collect()
    }

    fn is_of_changes(&self) -> bool {
        self.text.starts_with("select c.")
    }
}

/// Decodes it and keeps its id.
fn change(row: &PgRow) -> Result<Uuid, sqlx::Error> {
    let (_, _, _): (Uuid, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let (_, _): (Value, String) = (row.try_get(4)?, row.try_get(5)?);
    let (_, _): (Option<Value>, Option<Vec<String>>) = (row.try_get(6)?, row.try_get(7)?);
    let (_, _): (Option<Value>, OffsetDateTime) = (row.try_get(8)?, row.try_get(9)?);
    row.try_get(0)
}

fn transaction(row: &PgRow) -> Result<Uuid, sqlx::Error> {
    let (_, _): (i64, OffsetDateTime) = (row.try_get(1)?, row.try_get(2)?);
    let (_, _): (Option<String>, Option<Value>) = (row.try_get(3)?, row.try_get(4)?);
    let (_, _): (Option<Value>, Option<Uuid>) = (row.try_get(5)?, row.try_get(6)?);
    row.try_get(0)
}

/// That both have read the same, where both ask for the same.
pub(super) fn same(case: &str, ours: &[Uuid], library: &[Uuid], size: u16) -> anyhow::Result<()> {
    let library = &library[..library.len().min(size.into())];
    ensure!(
        ours == library,
        "{case}: {} entries, and {} of the library's, or others",
        ours.len(),
        library.len()
    );
    Ok(())
}
