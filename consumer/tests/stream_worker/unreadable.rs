//! Rows that the source cannot hand over, for a forwarder that wants all of each.

use common::identifier::quote;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::*;

fn delivered() -> Scripted {
    Scripted::new(|_, _| Ok(Verdict::Delivered))
}

/// Commits rows, changes some of them by SQL, publishes all, and waits until all is settled.
async fn carry(worker: &Running, actions: &[&str], change: &str) -> anyhow::Result<Vec<Uuid>> {
    let rows: Vec<AuditRow> = actions.iter().map(|action| AuditRow::sample(action)).collect();
    let mut application = worker.database.connect().await?;
    audit::insert(&mut application, &audit_events(), &rows).await?;
    sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut worker.database.superuser().await?).await?;
    for row in &rows {
        worker.publish(row.id).await?;
    }
    worker.settled().await?;
    Ok(rows.iter().map(|row| row.id).collect())
}

/// The first of these is the offender; each of the others has been forwarded.
async fn only_the_first_is_a_dead_letter(
    worker: &Running,
    forwarder: &Scripted,
    ids: &[Uuid],
    reason: &str,
    words: &str,
) -> anyhow::Result<()> {
    wait::until("the others", DEADLINE, || ids[1..].iter().all(|id| !forwarder.times(*id).is_empty()))?;
    assert!(forwarder.times(ids[0]).is_empty());
    let dead_letters: Vec<(String, String, String, String)> =
        sqlx::query_as("select ref, state, reason, error from outbox.failures")
            .fetch_all(&mut worker.database.connect().await?)
            .await?;
    let [(id, state, because, error)] = dead_letters.as_slice() else { panic!("{dead_letters:?}") };
    assert_eq!([id.as_str(), state, because], [&ids[0].to_string(), "dead", reason]);
    assert!(error.contains(words), "{error}");
    Ok(())
}

const ACTIONS: [&str; 6] = ["test.bad", "test.fine", "test.fine", "test.fine", "test.fine", "test.fine"];

/// 344 bytes on disk, 131 million as text.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_expands_beyond_its_bound_is_not_sent_and_its_dead_letter_names_the_bound()
-> anyhow::Result<()> {
    let forwarder = delivered();
    let worker = Running::start(&forwarder).await?;
    let change = "update audit_events set metadata = (
                      select jsonb_agg('1e131071'::jsonb) from generate_series(1, 1000))
                  where action = 'test.bad'";
    let ids = carry(&worker, &ACTIONS, change).await?;
    let words = "more than a row may (16777216: 16 MiB, or consumer.batch_bytes";
    only_the_first_is_a_dead_letter(&worker, &forwarder, &ids, "audit_event_too_large", words).await?;
    worker.stop().await
}

/// The same of a text that is stored compressed, and beside others that fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_beyond_the_bound_is_not_sent_and_many_large_ones_are_taken_in_slices() -> anyhow::Result<()> {
    let forwarder = delivered();
    let worker = Running::start(&forwarder).await?;
    let change = "alter table audit_events alter user_agent type text;
                  update audit_events set user_agent = repeat('x', case action
                      when 'test.bad' then 100000000 else 10000000 end)";
    let actions: Vec<&str> =
        std::iter::once("test.bad").chain(std::iter::repeat_n("test.large", 20)).collect();
    let ids = carry(&worker, &actions, change).await?;
    only_the_first_is_a_dead_letter(&worker, &forwarder, &ids, "audit_event_too_large", "16777216").await?;
    assert!(ids[1..].iter().all(|id| forwarder.times(*id).len() == 1));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_damaged_value_is_a_dead_letter_and_its_neighbours_are_delivered() -> anyhow::Result<()>
{
    let forwarder = delivered();
    let worker = Running::start(&forwarder).await?;
    let change = "alter table audit_events alter metadata set storage external;
                  update audit_events set metadata = jsonb_build_object('a', repeat(md5(id::text), 1000))
                      where action = 'test.bad';
                  create extension pg_surgery;
                  do $$
                  declare
                      toast regclass := (select reltoastrelid from pg_class where oid = 'audit_events'::regclass);
                      place tid;
                  begin
                      execute format('select min(ctid) from %s', toast) into place;
                      perform heap_force_kill(toast, array[place]);
                  end $$";
    let ids = carry(&worker, &ACTIONS, change).await?;
    let words = "chunk number";
    only_the_first_is_a_dead_letter(&worker, &forwarder, &ids, "audit_event_unreadable", words).await?;
    worker.stop().await
}

/// A byte that means nothing in WIN1252, and one that is no UTF-8 in a database that does not look.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_does_not_convert_is_a_dead_letter_and_its_neighbours_are_delivered() -> anyhow::Result<()>
{
    for (encoding, byte) in [("WIN1252", "chr(129)"), ("SQL_ASCII", "chr(255)")] {
        let database = database_in(encoding).await?;
        let forwarder = delivered();
        let worker = Running::on(database, &forwarder, ConsumerSettings::default()).await?;
        let change = format!("update audit_events set user_agent = {byte} where action = 'test.bad'");
        let ids = carry(&worker, &ACTIONS, &change).await?;
        let words = "the audit row cannot be read";
        only_the_first_is_a_dead_letter(&worker, &forwarder, &ids, "audit_event_unreadable", words).await?;
        worker.stop().await?;
    }
    Ok(())
}

async fn database_in(encoding: &str) -> anyhow::Result<TestDatabase> {
    let postgres = &shared().postgres;
    let name = format!("audit_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
    let name_quoted = quote(&name);
    connection
        .execute(AssertSqlSafe(format!(
            "create database {name_quoted} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        )))
        .await?;
    let database = TestDatabase { url: postgres.url(&name) };
    let mut connection = database.connect().await?;
    audit::install(&mut connection, "public").await?;
    let mut connection = common::session::Session::from(connection);
    common::outbox::migrate(&mut connection).await?;
    common::outbox::capture::attach(&mut connection, &audit_events()).await?;
    Ok(database)
}
