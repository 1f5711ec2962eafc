//! Errors of a server that one event provokes: what looks like an outage costs nobody else anything, and an outage costs
//! nobody anything.

use std::{collections::HashSet, time::Duration};

use end_to_end::{DEADLINE, Pipeline, address, samples};
use sandbox::{
    audit::AuditRow,
    fixture,
    postgres::{Postgres, Stop},
    proxy::Proxy,
    wait,
    work_dir::WorkDir,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// What servers say of themselves: conflicts, connections, transactions, logins, resources, locks, an operator's hand, the
/// system below.
const CODES: [&str; 24] = [
    "40001", "40P01", "40003", "08006", "08P01", "0B000", "24000", "25006", "25P02", "26000", "28000",
    "2D000", "3D000", "53100", "53200", "53300", "53400", "55006", "55P03", "57014", "57P01", "57P03",
    "58030", "58P01",
];

/// A host's function that fails for one name in one way: the last word of it is a code, or what to do.
const PROVOKE: &str = "
    create function public.provoke(name text) returns void language plpgsql as $$
    declare
        what text := substr(name, length('provoked.') + 1);
    begin
        if not starts_with(name, 'provoked.') then return;
        elsif what = 'end' then perform pg_terminate_backend(pg_backend_pid()), pg_sleep(60);
        elsif what = 'sleep' then perform pg_sleep(60);
        else raise exception 'provoked by one row' using errcode = what;
        end if;
    end $$;
    create function public.say(what text) returns text language plpgsql immutable as $$
    begin
        perform public.provoke(what);
        return what;
    end $$;";

const TRIGGER: &str = "
    create function host_rule() returns trigger language plpgsql as $$
    begin
        perform public.provoke(new.name);
        return new;
    end $$;
    create trigger host_rule before insert on audit_actions for each row execute function host_rule()";

/// A type of the host's own, whose cast to text fails for some values.
const CAST: &str = "
    create type label as (name text);
    create function label_text(label) returns text language sql immutable as 'select public.say($1.name)';
    create cast (label as text) with function label_text(label);
    alter table audit_events alter actor_type drop default;
    alter table audit_events alter actor_type type label using row(actor_type)::label;
    update audit_events set actor_type = row(action)::label where starts_with(action, 'provoked.')";

const SETTINGS: &str = "max_attempts = 2\nforward_timeout = \"2s\"\n\
    [consumer.backoff]\nprofile = \"exponential\"\nfirst = \"100ms\"\nmax = \"200ms\"\n\
    [source]\nstatement_timeout = \"1s\"";

fn provoking(whats: &[&str]) -> Vec<AuditRow> {
    whats.iter().map(|what| AuditRow::sample(&format!("provoked.{what}"))).collect()
}

async fn host(database: &fixture::TestDatabase, statements: &[&str]) -> anyhow::Result<()> {
    let mut owner = database.connect().await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut owner).await?;
    }
    Ok(())
}

/// Only these have failed.
async fn only(pipeline: &Pipeline, bad: &[AuditRow]) -> anyhow::Result<Vec<Value>> {
    let bad: HashSet<String> = bad.iter().map(|row| row.id.to_string()).collect();
    let failures = pipeline.failures().await?;
    let other = failures.iter().find(|failure| !bad.contains(failure["ref"].as_str().unwrap_or_default()));
    assert_eq!(other, None, "only what provokes is charged");
    Ok(failures)
}

/// They end like this after two attempts, while some more rows are committed at each look.
async fn dead(pipeline: &Pipeline, bad: &[AuditRow], reason: &str, more: usize) -> anyhow::Result<()> {
    wait::until_some(&format!("{} dead letters", bad.len()), 2 * DEADLINE, async || {
        pipeline.commit(&samples(more).0).await?;
        let failures = only(pipeline, bad).await?;
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead == bad.len()).then_some(()))
    })
    .await?;
    for failure in pipeline.failures().await? {
        assert_eq!((&failure["reason"], &failure["attempts"]), (&reason.into(), &2.into()), "{failure}");
    }
    Ok(())
}

/// All of these in the stream before a consumer begins: one batch.
async fn at_once(pipeline: &Pipeline, bad: &[AuditRow], fine: Vec<AuditRow>) -> anyhow::Result<()> {
    let mut rows = [bad, &fine].concat();
    rows.sort_by_key(|row| row.id);
    pipeline.commit(&rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_event_makes_the_timelines_server_say_of_itself_costs_no_other_event_anything()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(SETTINGS).await?;
    host(&pipeline.timeline, &[PROVOKE, TRIGGER]).await?;
    let (bad, (fine, ids)) = (provoking(&CODES), samples(100));
    at_once(&pipeline, &bad, fine).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(124).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    dead(&pipeline, &bad, "attempts_exhausted", 1).await?;
    for failure in pipeline.failures().await? {
        assert!(failure["error"].as_str().unwrap_or_default().contains("provoked by one row"), "{failure}");
    }
    pipeline.settled("timeline").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_the_timeline_end_its_connection_or_wait_becomes_a_dead_letter_and_its_neighbours_arrive()
-> anyhow::Result<()> {
    for what in ["end", "sleep"] {
        let pipeline = Pipeline::with_settings(SETTINGS).await?;
        host(&pipeline.timeline, &[PROVOKE, TRIGGER]).await?;
        let (bad, (fine, mut ids)) = (provoking(&[what, what]), samples(60));
        at_once(&pipeline, &bad, fine).await?;
        let _publisher = pipeline.publisher()?;
        pipeline.references(62).await?;
        let _consumer = pipeline.consumer()?;
        let (later, mut more) = samples(20);
        pipeline.commit(&later).await?;
        ids.append(&mut more);
        pipeline.arrive(&ids).await?;
        dead(&pipeline, &bad, "attempts_exhausted", 1).await?;
    }
    Ok(())
}

/// Each alone in the hand of a worker, as many as there are workers and more.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_provoke_one_by_one_do_not_stop_what_comes_behind_them() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(SETTINGS).await?;
    host(&pipeline.timeline, &[PROVOKE, TRIGGER]).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let mut bad = Vec::new();
    for (count, what) in ["40001", "end", "25006", "53100", "57P01"].into_iter().enumerate() {
        let row = provoking(&[what]);
        pipeline.commit(&row).await?;
        bad.extend(row);
        wait::until_some("it to be put off", DEADLINE, async || {
            Ok((only(&pipeline, &bad).await?.len() > count).then_some(()))
        })
        .await?;
    }
    let (fine, ids) = samples(20);
    pipeline.commit(&fine).await?;
    pipeline.arrive(&ids).await?;
    // What the timeline takes meanwhile is the proof.
    dead(&pipeline, &bad, "attempts_exhausted", 1).await
}

/// Whatever is in the midst of being isolated whenever that happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_stops_again_and_again_while_an_event_provokes_it_charges_nobody_else()
-> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let mut server = Postgres::start(&work_dir, false)?;
    let mut pipeline = Pipeline::with_settings(SETTINGS).await?;
    pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
    host(&pipeline.timeline, &[PROVOKE, TRIGGER]).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, mut ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut bad = Vec::new();
    for (how, what) in [
        (Stop::Fast, "end"),
        (Stop::Kill, "40001"),
        (Stop::Immediate, "57P01"),
        (Stop::Fast, "08006"),
        (Stop::Immediate, "end"),
        (Stop::Kill, "53300"),
    ] {
        let provoke = provoking(&[what]);
        let (fine, mut more) = samples(60);
        at_once(&pipeline, &provoke, fine).await?;
        bad.extend(provoke);
        ids.append(&mut more);
        let said = consumer.log().matches("waiting for timeline database").count();
        wait::until("the timeline to be waited for", DEADLINE, || {
            consumer.log().matches("waiting for timeline database").count() > said
        })?;
        server.stop(how)?;
        let said = consumer.log().matches("waiting for timeline database").count();
        wait::until("the consumer to look for it several times", DEADLINE, || {
            consumer.log().matches("waiting for timeline database").count() > said + 4
        })?;
        only(&pipeline, &bad).await?;
        server.restart()?;
    }
    pipeline.arrive(&ids).await?;
    dead(&pipeline, &bad, "attempts_exhausted", 1).await?;
    Ok(())
}

/// It answers, and takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_is_read_only_or_locked_for_long_charges_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(SETTINGS).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, mut ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    for (broken, fixed) in [
        (
            "do $$ begin execute format(
                 'alter role audit_projector in database %I set default_transaction_read_only = on', current_database());
             end $$;
             select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'audit-consumer-timeline' and datname = current_database()",
            "do $$ begin execute format(
                 'alter role audit_projector in database %I reset default_transaction_read_only', current_database());
             end $$;
             select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'audit-consumer-timeline' and datname = current_database()",
        ),
        ("begin; lock table audit_actions in exclusive mode", "rollback"),
    ] {
        let mut owner = pipeline.timeline.superuser().await?;
        owner.execute(sqlx::raw_sql(AssertSqlSafe(broken))).await?;
        let (rows, mut more) = samples(60);
        pipeline.commit(&rows).await?;
        ids.append(&mut more);
        let said = consumer.log().matches("waiting for timeline database").count();
        wait::until("the timeline to be waited for several times", DEADLINE, || {
            consumer.log().matches("waiting for timeline database").count() > said + 5
        })?;
        only(&pipeline, &[]).await?;
        owner.execute(sqlx::raw_sql(AssertSqlSafe(fixed))).await?;
        pipeline.arrive(&ids).await?;
        only(&pipeline, &[]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_row_makes_the_sources_server_say_of_itself_costs_no_other_row_anything()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(SETTINGS).await?;
    let (bad, (fine, ids)) = (provoking(&CODES), samples(100));
    at_once(&pipeline, &bad, fine).await?;
    host(&pipeline.source, &[PROVOKE, CAST]).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(124).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    dead(&pipeline, &bad, "audit_event_unreadable", 0).await?;
    pipeline.settled("timeline").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_makes_the_source_end_its_connection_or_wait_becomes_a_dead_letter_and_its_neighbours_arrive()
-> anyhow::Result<()> {
    for what in ["end", "sleep"] {
        let pipeline = Pipeline::with_settings(SETTINGS).await?;
        let (bad, (fine, ids)) = (provoking(&[what, what]), samples(60));
        at_once(&pipeline, &bad, fine).await?;
        host(&pipeline.source, &[PROVOKE, CAST]).await?;
        let _publisher = pipeline.publisher()?;
        pipeline.references(62).await?;
        let _consumer = pipeline.consumer()?;
        pipeline.arrive(&ids).await?;
        dead(&pipeline, &bad, "audit_event_unreadable", 0).await?;
    }
    Ok(())
}

/// A cut looks like a row that ends its connection.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_source_that_are_cut_again_and_again_charge_no_row() -> anyhow::Result<()> {
    let direct = Pipeline::with_settings(SETTINGS).await?;
    host(&direct.source, &[PROVOKE, CAST]).await?;
    let mut cut = Pipeline::sharing(&direct, SETTINGS)?;
    let server = address(&cut.source.url)?;
    let proxy = Proxy::start(server).await?;
    cut.source.url = cut.source.url.replace(&server.to_string(), &proxy.address().to_string());
    let _publisher = direct.publisher()?;
    let consumer = cut.consumer()?;
    wait::until("the consumer to have begun", DEADLINE, || {
        consumer.log().contains("forwarding from the stream")
    })?;
    let mut ids: Vec<Uuid> = Vec::new();
    for round in 0..20_u64 {
        let rows: Vec<AuditRow> = (0..40).map(|_| AuditRow::sample("test.row")).collect();
        ids.extend(rows.iter().map(|row| row.id));
        let mut application = direct.source.connect().await?;
        for row in rows {
            sqlx::query(
                "insert into audit_events (id, occurred_at, inserted_at, action, outcome, actor_type)
                 values ($1, now(), now(), $2, 'success', row('user')::label)",
            )
            .bind(row.id)
            .bind(row.action)
            .execute(&mut application)
            .await?;
        }
        for _ in 0..10 {
            proxy.cut_after(500 + round * 100);
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.cut();
        }
        only(&direct, &[]).await?;
    }
    direct.arrive(&ids).await?;
    only(&direct, &[]).await.map(drop)
}
