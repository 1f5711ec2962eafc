//! What is wrong with the source, its roles and its table.

use end_to_end::{DEADLINE, OwnedServer, Pipeline};
use sandbox::{
    fixture::{self, TestDatabase},
    postgres::Postgres,
    rights,
    work_dir::WorkDir,
};
use sqlx::Executor as _;

use super::{ALL_GRANTS, as_role, doctor, sql};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_role_is_found() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let owner = pipeline.source.clone();
    let role = as_role(
        &mut pipeline,
        "grant usage on schema outbox to ROLE;
         grant select on all tables in schema outbox to ROLE;
         grant execute on function outbox.attached_table(), outbox.base_type(oid), outbox.faults(oid), outbox.this_database() to ROLE",
    )
    .await?;
    // Somebody else, whose transactions this role may not see.
    let _other = owner.connect().await?;
    let retention = ["--set", "source.retention=90days"];
    let answer = doctor(&pipeline, "publisher", &retention)?;
    answer.has(
        "grant-missing",
        &[
            &format!("grant insert, delete on outbox.entries to {role}"),
            &format!("grant insert, update, delete on outbox.leases to {role}"),
            &format!("grant execute on function outbox.undelivered_rows(timestamp with time zone) to {role}"),
        ],
    );
    answer.has("transactions-hidden", &[&format!("grant pg_read_all_stats to {role}")]);
    assert!(answer.json["checked"].as_array().unwrap().contains(&"reader-unused".into()), "it may look");
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("grant-missing", &[&format!("grant select on public.audit_events to {role}")]);

    sql(&owner, &format!("revoke usage on schema outbox from {role}")).await?;
    let answer = doctor(&pipeline, "publisher", &[])?;
    answer.has("grant-missing", &[&format!("grant usage on schema outbox to {role}")]);
    answer.misses(&["check-failed", "outbox-missing"]);
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("grant-missing: "), "{said}");

    let mut pipeline = Pipeline::new().await?;
    let owner = pipeline.source.clone();
    // Under the shipped rights a forwarder that looks at whole rows would wait for ever for what it may not read.
    pipeline.configure(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"siem\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nunsigned = true",
    )?;
    let hidden =
        ["target_id", "target_type", "organization_id", "effective_user_id", "ip_address", "user_agent"];
    pipeline.source.url = rights::as_role(&owner.url, "audit_consumer");
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has(
        "grant-missing",
        &[
            "forwarder siem: the role audit_consumer lacks select (",
            "run as its owner: ",
            " to audit_consumer",
        ],
    );
    let names = hidden.map(|column| format!("\"{column}\""));
    answer.has("grant-missing", &names.each_ref().map(String::as_str));
    assert!(!answer.json.to_string().contains("forwarder timeline: the role"), "{}", answer.json);
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("grant-missing: forwarder siem"), "{said}");
    sql(&owner, &format!("grant select ({}) on audit_events to audit_consumer", names.join(", "))).await?;
    doctor(&pipeline, "consumer", &[])?.misses(&["grant-missing", "forwarder-column-absent"]);
    sql(&owner, "alter table audit_events drop column action, drop column ip_address").await?;
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has(
        "forwarder-column-missing",
        &["forwarder timeline: public.audit_events has no column action", "docs/events.md"],
    );
    answer.has(
        "forwarder-column-absent",
        &["forwarder siem: public.audit_events has no column action, ip_address: it counts as NULL"],
    );
    assert_eq!(answer.names().iter().filter(|name| **name == "forwarder-column-missing").count(), 1);
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("forwarder-column-missing: forwarder timeline: "), "{said}");
    pipeline.source = owner;
    let mut attach = pipeline.spawn("publisher", &["attach"])?;
    assert!(attach.wait(DEADLINE)?.success());
    let said = attach.log();
    assert!(said.contains("can deliver nothing") && said.contains("docs/events.md"), "{said}");

    let mut pipeline = Pipeline::new().await?;
    let owner = pipeline.source.clone();
    let role = as_role(&mut pipeline, ALL_GRANTS).await?;
    sql(&owner, "alter table audit_events enable row level security").await?;
    doctor(&pipeline, "consumer", &[])?.has("rows-hidden", &[&format!("alter role {role} bypassrls")]);
    Ok(())
}

/// Whoever inserts needs no rights, and the owner with whose rights capture runs has all; each that is missing breaks something.
#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_capture_or_a_service_lacks_is_found() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let owner = rights::OWNER;
    for (revoked, words) in [
        (format!("revoke insert on outbox.entries from {owner}"), "insert into outbox.entries"),
        (
            format!(
                "revoke insert on outbox.entries from {owner};
                 grant insert (audit_event_id) on outbox.entries to {owner}"
            ),
            "insert into outbox.entries",
        ),
        (format!("revoke insert on outbox.missed from {owner}"), "insert into outbox.missed"),
        (format!("revoke usage on schema outbox from {owner}"), "insert into outbox.entries"),
        (
            format!("revoke execute on function outbox.base_type(oid) from {owner}"),
            "execute outbox.base_type(oid)",
        ),
    ] {
        let mut pipeline = Pipeline::sharing(&pipeline, "")?;
        sql(&pipeline.source, &revoked).await?;
        // Somebody who may look at everything else.
        pipeline.source.url = rights::as_superuser(&pipeline.source.url);
        for binary in ["publisher", "consumer"] {
            doctor(&pipeline, binary, &[])?
                .has("capture-off", &[&format!("runs with the rights of {owner}"), words]);
        }
        let all = format!(
            "grant all on outbox.entries, outbox.missed to {owner}; grant all on schema outbox to {owner};
             grant execute on function outbox.base_type(oid) to {owner}"
        );
        sql(&pipeline.source, &all).await?;
        doctor(&pipeline, "publisher", &[])?.misses(&["capture-off"]);
    }
    // PostgreSQL asks this of whoever makes a partition, each of which gets the trigger.
    let partitioned = format!(
        "create table parts (id uuid not null, occurred_at timestamptz not null) partition by range (occurred_at);
         alter table parts owner to {owner}"
    );
    let parted = Pipeline::new().await?;
    sql(&parted.source, &partitioned).await?;
    let arguments = ["--set", "source.table=public.parts"];
    for command in ["detach", "attach"] {
        let (done, said) = parted.command("publisher", &[&[command], &arguments[..]].concat())?;
        assert!(done, "{said}");
    }
    doctor(&parted, "publisher", &arguments)?.misses(&["grant-missing"]);
    sql(&parted.source, &format!("revoke execute on function outbox.capture() from {owner}")).await?;
    for binary in ["publisher", "consumer"] {
        doctor(&parted, binary, &arguments)?
            .has("grant-missing", &["which owns public.parts", "grant execute on function outbox.capture()"]);
    }
    // Two columns suffice.
    sql(
        &pipeline.source,
        &format!(
            "revoke insert on outbox.entries from {owner};
             grant insert (audit_event_id, occurred_at) on outbox.entries to {owner}"
        ),
    )
    .await?;
    doctor(&pipeline, "consumer", &[])?.misses(&["capture-off"]);

    let role = "audit_consumer";
    for (revoked, lacks, granted) in [
        ("insert (since) on outbox.forwarders", "insert (since)", "insert (since) on outbox.forwarders"),
        ("update on outbox.forwarders", "update", "update (since, at, dropped_at) on outbox.forwarders"),
        ("select on outbox.forwarders", "select", "select on outbox.forwarders"),
        ("select on outbox.settled", "select", "select on outbox.settled"),
        (
            "insert (occurred_at) on outbox.entries",
            "insert (occurred_at)",
            "insert (occurred_at) on outbox.entries",
        ),
    ] {
        let mut pipeline = Pipeline::sharing(&pipeline, "")?;
        sql(&pipeline.source, &format!("revoke {revoked} from {role}")).await?;
        let database = pipeline.source.clone();
        pipeline.source.url = rights::as_role(&database.url, role);
        let answer = doctor(&pipeline, "consumer", &[])?;
        answer.has("grant-missing", &[&format!("the role {role} lacks {lacks}")]);
        sql(&database, &format!("grant {granted} to {role}")).await?;
        doctor(&pipeline, "consumer", &[])?.misses(&["grant-missing"]);
    }
    Ok(())
}

/// Rows that the condition leaves out went by, were counted by nothing, and capture was called attached.
#[tokio::test(flavor = "multi_thread")]
async fn a_capture_trigger_that_leaves_rows_out_is_found_and_attach_replaces_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sql(
        &pipeline.source,
        "drop trigger outbox_capture on audit_events;
         create trigger outbox_capture after insert on audit_events for each row when (new.action <> 'left.out')
             execute function outbox.capture();
         alter table audit_events enable always trigger outbox_capture;
         insert into audit_events (id, occurred_at, action, outcome, inserted_at)
         values (gen_random_uuid(), now(), 'left.out', 'success', now())",
    )
    .await?;
    let what =
        "outbox_capture on public.audit_events is not the one that attach made: it has a condition (WHEN)";
    doctor(&pipeline, "publisher", &[])?
        .has("capture-off", &[what, "publisher attach", "publisher backfill"]);
    let (_, said) = pipeline.command("publisher", &["status"])?;
    assert!(said.contains("broken") && said.contains(what), "{said}");
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done && said.contains("replaced a trigger") && said.contains("publisher backfill"), "{said}");
    doctor(&pipeline, "publisher", &[])?.misses(&["capture-off"]);
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done && !said.contains("replaced"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_outbox_and_its_table_is_found() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sql(
        &pipeline.source,
        "drop trigger outbox_capture on audit_events;
         alter table audit_events drop constraint audit_events_pkey;
         drop index audit_events_inserted_at_index;
         alter table outbox.entries set (autovacuum_enabled = off);
         insert into outbox.entries (audit_event_id) values (gen_random_uuid());
         insert into outbox.rounds (reader, n, s, t, generation, system_identifier, at)
         select reader, 0, '3:3:', '3:3:', 0, system_identifier, now() - interval '25 hours'
         from pg_control_system(), unnest('{jetstream,forward-gone,forward-timeline}'::text[]) reader",
    )
    .await?;
    let answer = doctor(&pipeline, "publisher", &[])?;
    answer.has("capture-off", &["on 1 table(s) of public.audit_events", "publisher attach"]);
    answer.has(
        "source-unfit",
        &["no unique index", "create unique index concurrently on public.audit_events (id)"],
    );
    answer.has("autovacuum-off", &["alter table outbox.entries reset (autovacuum_enabled)"]);
    answer.has("reader-unused", &["forward-gone", "publisher drop-reader forward-gone --reason"]);
    assert_eq!(answer.names().iter().filter(|name| **name == "reader-unused").count(), 1);
    answer.has("reader-stalled", &["jetstream has not moved for 1day 1h", "`consumer run`"]);
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("id-index-missing", &["create index concurrently on \"public\".\"audit_events\" (id)"]);
    answer.has("inserted-at-index-missing", &["create index concurrently"]);

    sql(&pipeline.source, "update outbox.rounds set system_identifier = 7").await?;
    doctor(&pipeline, "publisher", &[])?
        .has("rebase-needed", &["transaction ids mean nothing here", "publisher rebase --upgraded"]);
    let other = ["--set", "source.table=public.others"];
    doctor(&pipeline, "publisher", &other)?.has(
        "outbox-other-table",
        &["captures public.audit_events", "set source.table = \"public.audit_events\""],
    );
    sql(&pipeline.source, "drop schema outbox cascade").await?;
    doctor(&pipeline, "publisher", &[])?.has("outbox-missing", &["run `publisher attach`"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_and_an_autovacuum_that_is_switched_off_are_found() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start_with(&work_dir, false, "autovacuum = off")?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&server, "source").await?;
    pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
    let (owner, table) = (rights::OWNER, "audit_events");
    for (wrong, remedy, right) in [
        (
            format!("revoke pg_read_all_stats from {owner}"),
            format!("run as a superuser: grant pg_read_all_stats to {owner}"),
            format!("grant pg_read_all_stats to {owner}"),
        ),
        (
            format!(
                "alter table {table} enable row level security; alter table {table} force row level security"
            ),
            format!("run as a superuser: alter role {owner} bypassrls"),
            format!("alter table {table} disable row level security"),
        ),
    ] {
        sql(&pipeline.source, &wrong).await?;
        for binary in ["publisher", "consumer"] {
            doctor(&pipeline, binary, &[])?.has("safe-before-unprivileged", &[&remedy]);
        }
        sql(&pipeline.source, &right).await?;
        doctor(&pipeline, "publisher", &[])?.misses(&["safe-before-unprivileged"]);
    }
    let standby = server.standby(&work_dir, "standby")?;
    server.await_replay(&standby).await?;
    doctor(&pipeline, "publisher", &[])?.has("autovacuum-off", &["alter system set autovacuum = on"]);
    pipeline.source = TestDatabase::of_owner(&standby.url("source"));
    pipeline.timeline = TestDatabase::of_owner(&standby.url("timeline"));
    pipeline.own_postgres = Some(OwnedServer { server, work_dir });
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("source-standby", &["let source.url lead to the primary"]);
    answer.has("timeline-standby", &["forwarder timeline: the timeline is on a standby"]);
    answer.misses(&["check-failed"]);
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("source-standby: "), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_older_than_an_hour_are_found_and_so_is_a_check_that_fails()
-> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let (server, clock) = Postgres::start_with_clock(&work_dir, "-2h")?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&server, "source").await?;
    pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
    let (mut held, mut prepared) = (pipeline.source.connect().await?, pipeline.source.connect().await?);
    held.execute("set application_name = 'forgotten'; begin; select pg_current_xact_id()").await?;
    prepared.execute("begin; select pg_current_xact_id(); prepare transaction 'left behind'").await?;
    let young = doctor(&pipeline, "publisher", &[])?;
    young.misses(&["transaction-old", "transaction-prepared"]);
    young.has("clock-offset", &["s ahead of the source's"]);

    clock.set("+0s")?;
    let answer = doctor(&pipeline, "publisher", &[])?;
    answer.misses(&["clock-offset"]);
    answer.has("transaction-old", &["forgotten", "idle in transaction", "2h"]);
    answer.has("transaction-prepared", &["left behind", "2h", "rollback prepared 'left behind'"]);

    // A host may keep from its roles what others may see.
    let owner = pipeline.source.clone();
    let role = as_role(&mut pipeline, ALL_GRANTS).await?;
    sql(&owner, "revoke all on pg_prepared_xacts from public").await?;
    doctor(&pipeline, "publisher", &[])?.has("check-failed", &["transaction-prepared", "permission denied"]);
    sql(&owner, &format!("grant select on pg_prepared_xacts to {role}")).await?;
    doctor(&pipeline, "publisher", &[])?.misses(&["check-failed"]);
    pipeline.own_postgres = Some(OwnedServer { server, work_dir });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_said_and_nothing_is_ok_about_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sql(&pipeline.source, "drop schema outbox cascade; drop table audit_events").await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(!done && said.contains("no table public.audit_events: create it (docs/events.md"), "{said}");
    let outbox: bool = sqlx::query_scalar("select to_regnamespace('outbox') is not null")
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
    assert!(!outbox, "nothing is half done");
    for binary in ["publisher", "consumer"] {
        let answer = doctor(&pipeline, binary, &[])?;
        answer.has("source-table-missing", &["no table public.audit_events", "create it"]);
        let (_, said) = pipeline.command(binary, &["doctor"])?;
        for check in ["source-unfit", "id-index-missing", "rows-hidden", "forwarder-column-missing"] {
            assert!(!said.contains(&format!("ok {check}")), "{said}");
        }
    }
    Ok(())
}
