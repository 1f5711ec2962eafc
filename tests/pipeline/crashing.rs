//! An event that crashes a whole PostgreSQL server, each time that it is touched: all sessions end, and the server recovers.

use anyhow::Context as _;
use end_to_end::{DEADLINE, OwnedServer, Pipeline, samples};
use sandbox::{
    audit::AuditRow,
    fixture::{self, TestDatabase},
    postgres::Postgres,
    wait,
    work_dir::WorkDir,
};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

const SETTINGS: &str =
    "max_attempts = 2\n[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"100ms\"\nmax = \"200ms\"";

/// What a fault in an extension in C does: the process of the session dies, and the server ends all others.
const CRASH: &str = "
    create function public.crash(name text) returns text language plpgsql volatile security definer as $$
    begin
        if name = 'test.crash' then
            execute pg_catalog.format('copy (select 1) to program %L', 'kill -9 ' || pg_catalog.pg_backend_pid());
            perform pg_catalog.pg_sleep(60);
        end if;
        return name;
    end $$;";

const TRIGGER: &str = "
    create function host_rule() returns trigger language plpgsql as $$
    begin
        perform public.crash(new.name);
        return new;
    end $$;
    create trigger host_rule before insert on audit_actions for each row execute function host_rule()";

/// A type of the host's own, whose cast to text crashes for some values.
const CAST: &str = "
    create type label as (name text);
    create function label_text(label) returns text language sql volatile as 'select public.crash($1.name)';
    create cast (label as text) with function label_text(label);
    alter table audit_events alter actor_type drop default;
    alter table audit_events alter actor_type type label using row(actor_type)::label;
    update audit_events set actor_type = row(action)::label where action = 'test.crash'";

async fn host(database: &TestDatabase, statements: &[&str]) -> anyhow::Result<()> {
    let mut superuser = database.superuser().await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut superuser).await?;
    }
    Ok(())
}

/// Committed, and in the stream before a consumer begins: one batch, or several where `bad` is more than one.
async fn deliver_beside_crashes(
    pipeline: &Pipeline,
    on: &TestDatabase,
    rule: &str,
    bad: usize,
) -> anyhow::Result<()> {
    let (mut rows, ids) = samples(40);
    let offenders: Vec<AuditRow> = (0..bad).map(|_| AuditRow::sample("test.crash")).collect();
    let every = rows.len() / bad;
    for (index, offender) in offenders.iter().enumerate() {
        rows.insert(index * (every + 1), offender.clone());
    }
    pipeline.commit(&rows).await?;
    host(on, &[CRASH, rule]).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(40 + bad).await?;
    let batch = format!("consumer.batch_rows={}", rows.len().div_ceil(bad));
    let _consumers =
        [pipeline.consumer_with(&["--set", &batch])?, pipeline.consumer_with(&["--set", &batch])?];
    wait::until_some("the neighbours to arrive", 4 * DEADLINE, async || {
        // The server may be away at each look.
        let Ok(mut timeline) = pipeline.timeline.connect().await else { return Ok(None) };
        let there = sqlx::query_scalar("select count(*) = 40 from audit_actions where id = any ($1)");
        Ok(there.bind(&ids).fetch_one(&mut timeline).await.ok().filter(|there: &bool| *there))
    })
    .await?;
    let failures = wait::until_some("the offenders to be dead letters", 4 * DEADLINE, async || {
        // What arrives meanwhile is the proof that the server serves others.
        let _ = pipeline.commit(&samples(1).0).await;
        let Ok(failures) = pipeline.failures().await else { return Ok(None) };
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead >= bad).then_some(failures))
    })
    .await?;
    let mut expected: Vec<String> = offenders.iter().map(|row| row.id.to_string()).collect();
    expected.sort();
    assert_eq!(dead(&failures), expected, "{}", Value::from(failures));
    Ok(())
}

/// Others wait for another attempt, perhaps: they fail when somebody else crashes their server.
fn dead(failures: &[Value]) -> Vec<String> {
    let dead = failures.iter().filter(|failure| failure["state"] == "dead");
    let mut refs: Vec<String> =
        dead.filter_map(|failure| failure["ref"].as_str()).map(str::to_owned).collect();
    refs.sort();
    refs
}

fn server_of_its_own(name: &str) -> anyhow::Result<OwnedServer<Postgres>> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start(&work_dir, false).with_context(|| format!("a server for the {name}"))?;
    Ok(OwnedServer { server, work_dir })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_crashes_the_timelines_server_becomes_a_dead_letter_and_its_neighbours_arrive()
-> anyhow::Result<()> {
    let own = server_of_its_own("timeline")?;
    let mut pipeline = Pipeline::with_settings(SETTINGS).await?;
    pipeline.timeline = fixture::timeline_database_on(&own.server, "timeline").await?;
    deliver_beside_crashes(&pipeline, &pipeline.timeline, TRIGGER, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_crashes_the_source_becomes_a_dead_letter_and_its_neighbours_arrive() -> anyhow::Result<()>
{
    let own = server_of_its_own("source")?;
    let mut pipeline = Pipeline::with_settings(SETTINGS).await?;
    pipeline.source = fixture::source_database_on(&own.server, "source").await?;
    deliver_beside_crashes(&pipeline, &pipeline.source, CAST, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_crashes_the_server_of_both_becomes_a_dead_letter_and_its_neighbours_arrive()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_own_postgres().await?;
    pipeline.configure(SETTINGS)?;
    deliver_beside_crashes(&pipeline, &pipeline.timeline, TRIGGER, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_crash_the_source_from_several_workers_at_once_become_dead_letters() -> anyhow::Result<()> {
    let own = server_of_its_own("source")?;
    let mut pipeline = Pipeline::with_settings(SETTINGS).await?;
    pipeline.source = fixture::source_database_on(&own.server, "source").await?;
    deliver_beside_crashes(&pipeline, &pipeline.source, CAST, 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_crash_the_timeline_from_several_workers_at_once_become_dead_letters()
-> anyhow::Result<()> {
    let own = server_of_its_own("timeline")?;
    let mut pipeline = Pipeline::with_settings(SETTINGS).await?;
    pipeline.timeline = fixture::timeline_database_on(&own.server, "timeline").await?;
    deliver_beside_crashes(&pipeline, &pipeline.timeline, TRIGGER, 2).await
}

/// Beside rows that arrive.
async fn commit_neighbours(pipeline: &Pipeline) -> anyhow::Result<Vec<Uuid>> {
    let insert = "insert into audit_events (id, occurred_at, inserted_at, action, actor_type, outcome)
                  select gen_random_uuid(), now(), now(), 'test.row', row('user')::label, 'success'
                  from generate_series(1, 5) returning id";
    Ok(sqlx::query_scalar(insert).fetch_all(&mut pipeline.source.superuser().await?).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_crash_the_server_of_both_while_others_arrive_become_dead_letters() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_own_postgres().await?;
    pipeline.configure(SETTINGS)?;
    host(&pipeline.source, &[CRASH, CAST]).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&commit_neighbours(&pipeline).await?).await?;
    let insert = "insert into audit_events (id, occurred_at, inserted_at, action, actor_type, outcome)
                  select gen_random_uuid(), now(), now(), 'test.crash', row('test.crash')::label, 'success'
                  from generate_series(1, 3) returning id::text";
    let mut expected: Vec<String> =
        sqlx::query_scalar(insert).fetch_all(&mut pipeline.source.superuser().await?).await?;
    let failures = wait::until_some("the offenders to be dead letters", 4 * DEADLINE, async || {
        // The server may be away at each attempt.
        let _ = commit_neighbours(&pipeline).await;
        let Ok(failures) = pipeline.failures().await else { return Ok(None) };
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead >= 3).then_some(failures))
    })
    .await?;
    expected.sort();
    assert_eq!(dead(&failures), expected, "{}", Value::from(failures));
    Ok(())
}
