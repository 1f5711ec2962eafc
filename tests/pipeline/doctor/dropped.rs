//! Schemas that are not what their tables of migrations say.

use end_to_end::{Pipeline, samples};
use sandbox::fixture::TestDatabase;

use super::{doctor, sql};

/// Columns, indexes, constraints and functions of the schema, as text.
async fn catalog(database: &TestDatabase) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select format('%s.%s %s %s %s', c.relname, a.attname, a.atttypid::regtype, a.attnotnull, a.attidentity)
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'outbox'::regnamespace
         union all select indexdef from pg_indexes where schemaname = 'outbox'
         union all select pg_get_constraintdef(oid) from pg_constraint where connamespace = 'outbox'::regnamespace
         union all select format('%s %s', pg_get_functiondef(oid), has_function_privilege('public', oid, 'execute'))
                   from pg_proc where pronamespace = 'outbox'::regnamespace
         order by 1",
    )
    .fetch_all(&mut database.connect().await?)
    .await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_dropped_from_the_outbox_is_found_and_attach_makes_the_same_again() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let before = catalog(&pipeline.source).await?;
    let all: Vec<String> = sqlx::query_scalar(
        "select format('%s outbox.%I', case relkind when 'v' then 'view' else 'table' end, relname) from pg_class
         where relnamespace = 'outbox'::regnamespace and relkind in ('r', 'v') and relname <> 'migrations'
         union all select format('function outbox.%I', proname) from pg_proc
         where pronamespace = 'outbox'::regnamespace",
    )
    .fetch_all(&mut pipeline.source.connect().await?)
    .await?;
    assert!(all.len() > 15, "{all:?}");
    for what in all {
        sql(&pipeline.source, &format!("drop {what} cascade")).await?;
        let name = what.rsplit('.').next().unwrap().to_owned();
        for (binary, arguments) in [("publisher", ["doctor", "--json"]), ("publisher", ["status", "--json"])]
        {
            let (done, said) = pipeline.command(binary, &arguments)?;
            assert!(!done && said.contains(&name) && said.contains("publisher attach"), "{what}: {said}");
        }
        doctor(&pipeline, "consumer", &[])?.has("outbox-incomplete", &[&name]);
        let (done, said) = pipeline.command("publisher", &["attach"])?;
        assert!(
            done && said.contains("recreated what had been dropped") && said.contains(&name),
            "{what}: {said}"
        );
        assert_eq!(catalog(&pipeline.source).await?, before, "{what}");
    }
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done && !said.contains("recreated"), "{said}");
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    let entries: i64 =
        sqlx::query_scalar("select count(*) from outbox.entries where audit_event_id = any ($1)")
            .bind(ids)
            .fetch_one(&mut pipeline.source.connect().await?)
            .await?;
    assert_eq!(entries, 3, "it captures");
    Ok(())
}

/// What is there is what this version makes, so that it is known which migrations made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_migrations_that_was_dropped_is_found_and_recreated() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let before = catalog(&pipeline.source).await?;
    for also in ["", "drop table outbox.forwarders; drop function outbox.safe_before() cascade;"] {
        sql(&pipeline.source, &format!("drop table outbox.migrations; {also}")).await?;
        if also.is_empty() {
            for binary in ["publisher", "consumer"] {
                let answer = doctor(&pipeline, binary, &[])?;
                answer.has("outbox-altered", &["outbox.migrations was dropped", "run `publisher attach`"]);
            }
        }
        let (done, said) = pipeline.command("publisher", &["attach"])?;
        assert!(done && said.contains("recreated") && said.contains("migrations"), "{said}");
        assert_eq!(catalog(&pipeline.source).await?, before, "{also}");
        let (done, said) = pipeline.command("publisher", &["attach"])?;
        assert!(done && !said.contains("recreated"), "{said}");
        doctor(&pipeline, "publisher", &[])?.misses(&[
            "outbox-altered",
            "outbox-missing",
            "outbox-incomplete",
        ]);
    }
    // Nobody knows what has been made of this.
    sql(
        &pipeline.source,
        "drop table outbox.migrations; alter table outbox.settled drop column ever cascade",
    )
    .await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    let remedy = "alter table outbox.settled add column \"ever\" pg_snapshot";
    assert!(!done && said.contains("outbox.migrations was dropped") && said.contains(remedy), "{said}");
    sql(&pipeline.source, remedy).await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done && said.contains("recreated"), "{said}");

    for also in ["", "drop table audit_receipts;"] {
        sql(&pipeline.timeline, &format!("drop table threadline_migrations; {also}")).await?;
        doctor(&pipeline, "consumer", &[])?
            .has("timeline-incomplete", &["threadline_migrations", "threadline install --schema public"]);
        let (done, said) = pipeline.command("threadline", &["install"])?;
        // Without receipts nothing tells it from what the Elixir library installs.
        assert!(done && said.contains("recreated") == also.is_empty(), "{said}");
        let (done, said) = pipeline.command("threadline", &["install"])?;
        assert!(done && !said.contains("recreated"), "{said}");
        doctor(&pipeline, "consumer", &[])?.misses(&["timeline-incomplete"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_altered_in_the_outbox_is_found_with_what_undoes_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let before = catalog(&pipeline.source).await?;
    for (altered, words) in [
        ("alter table outbox.entries set unlogged", "is unlogged"),
        ("alter table outbox.entries enable row level security", "row-level security"),
        ("alter table outbox.failures enable row level security", "outbox.failures"),
        ("alter table outbox.entries add column tenant text not null default 'x'", "has a column"),
        ("alter table outbox.entries alter column forwarder set not null", "not null"),
        ("alter table outbox.entries alter column xid drop default", "lacks its default"),
        ("alter table outbox.entries alter column seq drop identity", "lacks its identity"),
        ("alter table outbox.entries add constraint never check (false) not valid", "constraint"),
        ("alter table outbox.entries drop constraint entries_pkey", "lacks its constraint"),
        ("create unique index one on outbox.entries (audit_event_id)", "index"),
        ("create rule gone as on insert to outbox.entries do instead nothing", "rule"),
        ("alter sequence outbox.entries_seq_seq maxvalue 70000", "sequence"),
        ("drop index outbox.failures_due_idx", "lacks its index"),
        ("alter function outbox.capture() security invoker", "the function outbox.capture()"),
        (
            "create or replace function outbox.capture() returns trigger language plpgsql security definer as
             'begin return null; end'",
            "the function outbox.capture()",
        ),
        (
            "create trigger gone before insert on outbox.entries for each row
             execute function suppress_redundant_updates_trigger()",
            "trigger",
        ),
    ] {
        sql(&pipeline.source, altered).await?;
        let answer = doctor(&pipeline, "publisher", &[])?;
        answer.has("outbox-altered", &[words]);
        doctor(&pipeline, "consumer", &[])?.has("outbox-altered", &[words]);
        let findings = answer.json["findings"].as_array().unwrap();
        for finding in findings.iter().filter(|finding| finding["name"] == "outbox-altered") {
            let remedy = finding["remedy"].as_str().unwrap();
            if let Some(statement) = remedy.strip_prefix("run as its owner: ") {
                sql(&pipeline.source, statement).await?;
            } else {
                assert!(remedy.starts_with("run `publisher attach`"), "{altered}: {remedy}");
                let (done, said) = pipeline.command("publisher", &["attach"])?;
                assert!(done && said.contains("recreated"), "{altered}: {said}");
            }
        }
        let answer = doctor(&pipeline, "publisher", &[])?;
        answer.misses(&["outbox-altered", "check-failed"]);
        assert_eq!(catalog(&pipeline.source).await?, before, "{altered}");
    }
    // An index more costs something, and is no fault.
    sql(&pipeline.source, "create index more on outbox.entries (audit_event_id)").await?;
    doctor(&pipeline, "publisher", &[])?.misses(&["outbox-altered"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_timeline_that_were_dropped_are_recreated() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    for table in ["audit_receipts", "audit_adoptions", "audit_changes", "audit_actions", "audit_transactions"]
    {
        sql(&pipeline.timeline, &format!("drop table {table} cascade")).await?;
        let answer = doctor(&pipeline, "consumer", &[])?;
        if table == "audit_actions" {
            answer.has("timeline-missing", &[table, "threadline install"]);
        } else {
            answer.has("timeline-incomplete", &[table, "threadline install"]);
        }
        let (done, said) = pipeline.command("threadline", &["install"])?;
        assert!(done && said.contains("recreated") && said.contains(table), "{said}");
        doctor(&pipeline, "consumer", &[])?.misses(&["timeline-missing", "timeline-incomplete"]);
    }
    let (done, said) = pipeline.command("threadline", &["install"])?;
    assert!(done && !said.contains("recreated"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_has_migrated_is_refused_by_name() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let newer = "(version, description, installed_on, success, checksum, execution_time)
                 values (99, 'of tomorrow', now(), true, '', 0)";
    sql(&pipeline.source, &format!("insert into outbox.migrations {newer}")).await?;
    for (binary, arguments) in [
        ("publisher", &["attach"][..]),
        ("publisher", &["run"]),
        ("publisher", &["status"]),
        ("consumer", &["status"]),
    ] {
        let (done, said) = pipeline.command(binary, arguments)?;
        assert!(!done && said.contains("of a newer version: migration 99"), "{binary} {arguments:?}: {said}");
    }
    for binary in ["publisher", "consumer"] {
        doctor(&pipeline, binary, &[])?.has("outbox-newer", &["migration 99"]);
    }
    sql(&pipeline.source, "delete from outbox.migrations where version = 99").await?;
    sql(&pipeline.timeline, &format!("insert into threadline_migrations {newer}")).await?;
    let (done, said) = pipeline.command("threadline", &["install"])?;
    assert!(!done && said.contains("of a newer version (migration 99"), "{said}");
    doctor(&pipeline, "consumer", &[])?.has("timeline-newer", &["migration 99"]);
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("timeline-newer: "), "{said}");
    Ok(())
}
