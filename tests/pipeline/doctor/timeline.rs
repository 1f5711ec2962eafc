//! What is wrong with the timeline's own table.

use end_to_end::{Pipeline, samples};
use sandbox::rights;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

use super::{doctor, sql};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_timelines_table_is_found_and_refuses_a_start() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let database: String = sqlx::query_scalar("select quote_ident(current_database())")
        .fetch_one(&mut pipeline.timeline.connect().await?)
        .await?;
    for (spoil, fix, name, words) in [
        (
            "alter table audit_actions drop column job_id".to_owned(),
            "alter table audit_actions add column job_id text".to_owned(),
            "timeline-column-unfit",
            "has no column job_id",
        ),
        (
            "alter table audit_actions alter column verb type bytea using null".to_owned(),
            "alter table audit_actions alter column verb type text using null".to_owned(),
            "timeline-column-unfit",
            "has a column verb of type bytea, which must be text",
        ),
        (
            "alter table audit_actions alter column inserted_at type timestamp".to_owned(),
            "alter table audit_actions alter column inserted_at type timestamptz".to_owned(),
            "timeline-column-unfit",
            "which must be timestamptz",
        ),
        (
            "alter table audit_actions alter column reason set not null".to_owned(),
            "alter table audit_actions alter column reason drop not null".to_owned(),
            "timeline-column-unfit",
            "drop not null",
        ),
        (
            "alter table audit_actions add column tenant text not null".to_owned(),
            "alter table audit_actions drop column tenant".to_owned(),
            "timeline-column-unfit",
            "column tenant of the host's own",
        ),
        (
            format!("alter database {database} set default_transaction_read_only = on"),
            format!(
                "begin read write; alter database {database} reset default_transaction_read_only; commit"
            ),
            "timeline-read-only",
            "set default_transaction_read_only = off",
        ),
        (
            "alter table audit_actions enable row level security".to_owned(),
            "alter table audit_actions disable row level security".to_owned(),
            "timeline-rows-hidden",
            "bypassrls",
        ),
    ] {
        sql(&pipeline.timeline, &spoil).await?;
        // As the role that writes, not as the owner.
        let (done, said) = pipeline.command("consumer", &["run"])?;
        assert!(!done && said.contains(&format!("{name}: ")) && said.contains(words), "{spoil}: {said}");
        let answer = doctor(&pipeline, "consumer", &[])?;
        match name {
            "timeline-column-unfit" => answer.has("timeline-column-unfit", &[words]),
            "timeline-read-only" => answer.has("timeline-read-only", &[words]),
            // The owner is above policies.
            _ => assert!(said.contains("row-level security of public.audit_actions applies"), "{said}"),
        }
        sql(&pipeline.timeline, &fix).await?;
    }
    sql(&pipeline.timeline, "alter table audit_actions enable row level security; alter table audit_actions force row level security").await?;
    doctor(&pipeline, "consumer", &[])?.has("timeline-rows-hidden", &["bypassrls"]);
    sql(&pipeline.timeline, "alter table audit_actions disable row level security").await?;
    doctor(&pipeline, "consumer", &[])?.misses(&[
        "timeline-column-unfit",
        "timeline-read-only",
        "timeline-rows-hidden",
    ]);
    // Domains and other text types take the same.
    sql(
        &pipeline.timeline,
        "create domain short as text; alter table audit_actions alter column verb type short",
    )
    .await?;
    sql(&pipeline.timeline, "alter table audit_actions alter column name type varchar(300)").await?;
    doctor(&pipeline, "consumer", &[])?.misses(&["timeline-column-unfit"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_under_two_ids_are_found_with_what_removes_them() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let theirs = |name: &str, event: Uuid| {
        format!(
            "insert into audit_actions (name, actor_ref, status, correlation_id)
             values ('{name}', '{{\"type\":\"anonymous\"}}', 'ok', '{event}')"
        )
    };
    // A host's own action beside an event, and one with a correlation id of another kind, are no doubles.
    for own in
        [theirs("host.own", ids[2]), theirs("test.row", ids[2]).replace(&ids[2].to_string(), "request-7")]
    {
        sql(&pipeline.timeline, &own).await?;
    }
    doctor(&pipeline, "consumer", &[])?.misses(&["timeline-doubled"]);
    for id in &ids[..2] {
        sql(&pipeline.timeline, &theirs("test.row", *id)).await?;
    }
    // As the role that writes: what it may not look for is said.
    let mut written = Pipeline::sharing(&pipeline, "")?;
    written.timeline.url = rights::as_role(&pipeline.timeline.url, "audit_projector");
    let answer = doctor(&written, "consumer", &[])?;
    answer.has("timeline-names-hidden", &["timeline-doubled could not be made", "audit_reconciler"]);
    answer.misses(&["timeline-doubled"]);
    assert!(
        !answer.json["checked"].as_array().unwrap().contains(&"timeline-doubled".into()),
        "{}",
        answer.json
    );
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("timeline-doubled", &["2 event(s)", "docs/switching.md"]);
    let remedy =
        answer.json["findings"].as_array().unwrap().iter().find(|one| one["name"] == "timeline-doubled");
    let remedy = remedy.unwrap()["remedy"].as_str().unwrap();
    sql(&pipeline.timeline, &remedy[remedy.find("delete").unwrap()..]).await?;
    doctor(&pipeline, "consumer", &[])?.misses(&["timeline-doubled"]);
    assert_eq!(pipeline.projected().await?, 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_can_only_be_read_is_found() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let read_only = "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$";
    sql(&pipeline.source, read_only).await?;
    for binary in ["publisher", "consumer"] {
        doctor(&pipeline, binary, &[])?.has("source-read-only", &["take default_transaction_read_only"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_do_not_know_what_their_text_means_are_found() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let name = format!("ascii_{}", Uuid::new_v4().simple());
    let create = format!("create database {name} encoding 'SQL_ASCII' locale 'C' template template0");
    pipeline.source.superuser().await?.execute(AssertSqlSafe(create)).await?;
    pipeline.timeline.url = format!("{}/{name}", pipeline.source.url.rsplit_once('/').unwrap().0);
    pipeline.source.url = pipeline.timeline.url.clone();
    for binary in ["publisher", "consumer"] {
        doctor(&pipeline, binary, &[])?.has("source-encoding", &["SQL_ASCII", "encoding 'UTF8'"]);
    }
    doctor(&pipeline, "consumer", &[])?.has("timeline-encoding", &["stores text as SQL_ASCII"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_on_some_of_the_columns_that_are_needed_do_not_pass_for_rights() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sql(
        &pipeline.timeline,
        "revoke insert on audit_actions from audit_projector;
         revoke insert (actor_ref) on audit_actions from audit_projector;
         revoke select on audit_adoptions from audit_projector;
         grant select (adopted_at) on audit_adoptions to audit_projector",
    )
    .await?;
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done, "{said}");
    for grant in
        ["grant insert on \"public\".\"audit_actions\"", "grant select on \"public\".\"audit_adoptions\""]
    {
        assert!(said.contains(&format!("{grant} to audit_projector")), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_is_not_installed_is_one_finding_and_no_check_that_failed() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sql(&pipeline.timeline, "drop table audit_actions cascade").await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("timeline-missing", &["threadline install"]);
    answer.misses(&["check-failed", "timeline-doubled"]);
    sql(&pipeline.timeline, "create table audit_actions (id uuid primary key)").await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("timeline-column-unfit", &["has no column correlation_id"]);
    answer.misses(&["check-failed", "timeline-doubled"]);
    Ok(())
}

/// Whatever is left of a rebuild records every change, so that it has to be told of until somebody ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_nobody_finishes_is_found_with_what_waits_for_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let rebuild = |arguments: &[&str]| -> anyhow::Result<()> {
        let (done, said) = pipeline.command("consumer", &[&["rebuild"], arguments].concat())?;
        anyhow::ensure!(done, "{said}");
        Ok(())
    };
    let record = "insert into audit_actions (name, actor_ref, status) values ('host.own', '{}', 'ok'), ('host.own', '{}', 'ok')";
    rebuild(&["--no-swap"])?;
    sql(&pipeline.timeline, record).await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("rebuild-unfinished", &["no process is at work on it", "2 wait there", "--drop-old"]);
    answer.misses(&["rebuild-kept"]);
    // As the role that writes.
    let mut written = Pipeline::sharing(&pipeline, "")?;
    written.timeline.url = rights::as_role(&pipeline.timeline.url, "audit_projector");
    doctor(&written, "consumer", &[])?.has("rebuild-unfinished", &["this role may not count them"]);
    // A process is at work.
    sql(
        &pipeline.source,
        "insert into outbox.leases (name, holder, expires_at)
         values ('rebuild-timeline', 'consumer (process 7 on web-1)', clock_timestamp() + interval '1 hour')",
    )
    .await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.misses(&["rebuild-unfinished", "rebuild-kept"]);
    assert!(answer.json["checked"].as_array().unwrap().contains(&"rebuild-unfinished".into()));
    sql(&pipeline.source, "delete from outbox.leases where name = 'rebuild-timeline'").await?;

    rebuild(&[])?;
    sql(&pipeline.timeline, record).await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("rebuild-kept", &["2 wait there", "--drop-old", "--rollback"]);
    answer.misses(&["rebuild-unfinished"]);
    sql(&pipeline.timeline, "drop table audit_actions_shadow").await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("rebuild-unfinished", &["somebody has dropped audit_actions_shadow", "--drop-old"]);
    rebuild(&["--drop-old"])?;
    doctor(&pipeline, "consumer", &[])?.misses(&["rebuild-unfinished", "rebuild-kept"]);
    Ok(())
}
