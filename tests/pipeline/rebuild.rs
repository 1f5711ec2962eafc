//! The projection rebuilt during live traffic.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{fixture::TestDatabase, wait};
use serde_json::Value;
use sqlx::Executor as _;
use tokio::task::JoinHandle;
use uuid::Uuid;

const COMPAT: &str = "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\nprofile = \"compat\"";
const CORRECT: [&str; 2] = ["--set", "forwarder.0.profile=correct"];

/// Counts the timeline over and over, in transactions of both kinds; fails when a reader sees fewer rows than before.
fn watch(timeline: &TestDatabase, until: &Arc<AtomicBool>) -> JoinHandle<anyhow::Result<i64>> {
    let (timeline, until) = (timeline.clone(), until.clone());
    tokio::spawn(async move {
        let mut reader = timeline.connect().await?;
        let mut most = 0;
        let mut looks = 0;
        while !until.load(Ordering::Relaxed) {
            let level = ["read committed", "repeatable read"][looks % 2];
            let begin = format!("begin isolation level {level}; select 1");
            reader.execute(sqlx::AssertSqlSafe(begin)).await?;
            let count: i64 =
                sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut reader).await?;
            reader.execute("commit").await?;
            anyhow::ensure!(count >= most, "a reader ({level}) saw {count} rows after {most}");
            most = count;
            looks += 1;
        }
        Ok(most)
    })
}

async fn row(pipeline: &Pipeline, id: Uuid) -> anyhow::Result<Value> {
    end_to_end::action(&mut pipeline.timeline.connect().await?, id).await
}

fn rebuild(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let arguments: Vec<&str> = ["rebuild"].iter().chain(arguments).copied().collect();
    pipeline.command("consumer", &arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_with_a_changed_mapping_is_swapped_in_under_load_and_back_again() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(COMPAT).await?;
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(500);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert_eq!(row(&pipeline, ids[0]).await?["category"], Value::Null);
    // What a host has recorded by itself, and a captured transaction that is linked to an action.
    let mut timeline = pipeline.timeline.connect().await?;
    let link = format!(
        "insert into audit_actions (id, name, actor_ref, status)
         values ('00000000-0000-0000-0000-000000000001', 'host.own', '{{}}', 'ok');
         insert into audit_transactions (txid, action_id) values (1, '00000000-0000-0000-0000-000000000001'), (2, '{}')",
        ids[0]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(link)).execute(&mut timeline).await?;

    drop(consumer);
    let _consumer = pipeline.consumer_with(&CORRECT)?;
    let until = Arc::new(AtomicBool::new(false));
    let watching = watch(&pipeline.timeline, &until);
    let playing = pipeline.play(2_000, 200, 32);
    let (done, said) = rebuild(&pipeline, &CORRECT)?;
    assert!(done && said.contains("the new table is in place"), "{said}");
    let old = row(&pipeline, ids[0]).await?;
    assert_eq!((&old["category"], &old["verb"]), (&"test".into(), &"row".into()), "the mapping of today");
    let (done, said) = rebuild(&pipeline, &CORRECT)?;
    assert!(!done && said.contains("--rollback") && said.contains("--drop-old"), "{said}");

    let (done, said) = rebuild(&pipeline, &["--rollback"])?;
    assert!(done, "{said}");
    assert_eq!(row(&pipeline, ids[0]).await?["category"], Value::Null, "as it was");
    let (done, said) = rebuild(&pipeline, &["--rollback"])?;
    assert!(done, "there and back again: {said}");
    let written = playing.await??;
    pipeline.arrive(&written.committed).await?;
    until.store(true, Ordering::Relaxed);
    let most = watching.await??;
    assert!(most >= 501);

    let verdict = pipeline.verdict().await?;
    assert_eq!(
        (verdict.missing, verdict.twice, verdict.foreign),
        (0, 0, 1),
        "but for the host's own: {verdict}"
    );
    let reconcile: Vec<&str> = ["reconcile"].iter().chain(&CORRECT).copied().collect();
    let (done, answer) = pipeline.ask("consumer", &reconcile)?;
    assert!(done && answer["differing"] == 0, "{answer}");
    // The links hold, and are held.
    let linked: i64 = sqlx::query_scalar(
        "select count(*) from audit_transactions t join audit_actions a on a.id = t.action_id",
    )
    .fetch_one(&mut timeline)
    .await?;
    assert_eq!(linked, 2);
    let dangling = "insert into audit_transactions (txid, action_id) values (3, gen_random_uuid())";
    assert!(timeline.execute(dangling).await.is_err(), "the foreign key points to the new table");
    let (validated, indexes): (bool, i64) = sqlx::query_as(
        "select (select bool_and(convalidated) from pg_constraint where confrelid = 'audit_actions'::regclass),
                (select count(*) from pg_indexes where tablename = 'audit_actions' and indexname in
                 ('audit_actions_pkey', 'audit_actions_page_idx', 'audit_actions_correlation_idx',
                  'audit_actions_name_page_idx', 'audit_actions_actor_page_idx', 'audit_actions_txid_idx'))",
    )
    .fetch_one(&mut timeline)
    .await?;
    assert!(validated && indexes == 6, "{indexes} indexes have their own names");

    let (done, said) = rebuild(&pipeline, &["--drop-old"])?;
    assert!(done, "{said}");
    let left: i64 = sqlx::query_scalar(
        "select count(*) from pg_class where relname like 'audit_actions_shadow%' or relname like 'audit_actions_journal%'",
    )
    .fetch_one(&mut timeline)
    .await?;
    assert_eq!(left, 0, "nothing of it is left");
    assert!(!rebuild(&pipeline, &["--rollback"])?.0, "and there is no way back any more");
    let (after, ids) = samples(3);
    pipeline.commit(&after).await?;
    pipeline.arrive(&ids).await?;
    drop(publisher);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_does_not_verify_is_not_put_in_place() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let (done, said) = rebuild(&pipeline, &["--no-swap"])?;
    assert!(done && said.contains("filled and verified"), "{said}");
    // Something that no rebuild would write.
    let mut timeline = pipeline.timeline.connect().await?;
    timeline.execute("update audit_actions_shadow set name = 'spoilt' where id = (select min(id::text)::uuid from audit_actions_shadow)").await?;
    let (done, said) = rebuild(&pipeline, &[])?;
    assert!(!done && said.contains("does not verify") && said.contains("--drop-old"), "{said}");
    let spoilt: i64 = sqlx::query_scalar("select count(*) from audit_actions where name = 'spoilt'")
        .fetch_one(&mut timeline)
        .await?;
    assert_eq!(spoilt, 0);
    assert!(rebuild(&pipeline, &["--drop-old"])?.0);

    timeline.execute("create view of_today as select * from audit_actions").await?;
    let (done, said) = rebuild(&pipeline, &[])?;
    assert!(!done && said.contains("view of_today"), "{said}");
    Ok(())
}

/// With profile `compat` the time of an action is that of its delivery, and nothing else knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_and_an_overwriting_replay_leave_the_times_of_delivery_as_they_are() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(COMPAT).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(30);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let times = async || -> anyhow::Result<Vec<(Uuid, String)>> {
        let times = sqlx::query_as("select id, inserted_at::text from audit_actions order by id");
        Ok(times.fetch_all(&mut pipeline.timeline.connect().await?).await?)
    };
    let before = times().await?;
    let other = ["--set", "forwarder.0.actor_type=admin"];
    let (done, said) = rebuild(&pipeline, &other)?;
    assert!(done, "{said}");
    assert_eq!(times().await?, before);
    assert_eq!(row(&pipeline, ids[0]).await?["actor_ref"]["type"], "admin", "the rest is of today");
    let replay = ["replay", "--forwarder", "timeline", "--from-start", "--overwrite"];
    assert_eq!(pipeline.ask("consumer", &replay)?.1["settled"], 30);
    assert_eq!(times().await?, before);
    assert_eq!(row(&pipeline, ids[0]).await?["actor_ref"]["type"], "user");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_waits_for_old_snapshots_and_lets_writers_continue_meanwhile() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut reader = pipeline.timeline.connect().await?;
    reader.execute("begin isolation level repeatable read; select 1").await?;
    let mut rebuilding = pipeline.spawn("consumer", &["rebuild"])?;
    let verified = || rebuilding.log().contains("verified the new table");
    wait::until_some("the new table to be verified", DEADLINE, async || Ok(verified().then_some(()))).await?;
    let (done, said) = rebuild(&pipeline, &[])?;
    let by = format!("is being rebuilt already by consumer (process {} on ", rebuilding.id());
    assert!(!done && said.contains(&by) && said.contains(", since 20"), "{said}");
    // Writers are asked to wait now and then, and never for long.
    for _ in 0..3 {
        let (rows, ids) = samples(1);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
    }
    let seen: i64 = sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut reader).await?;
    assert_eq!(seen, 20, "its snapshot is as old as it was, and so is what it sees");
    reader.execute("commit").await?;
    let ended = rebuilding.wait(DEADLINE)?;
    assert!(ended.success(), "{}", rebuilding.log());
    assert_eq!(pipeline.projected().await?, 23);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_finds_the_timeline_locked_says_by_whom() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut holder = pipeline.timeline.superuser().await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut holder).await?;
    holder
        .execute("set application_name = 'nightly report'; begin; lock table audit_actions in share mode")
        .await?;
    let (done, said) = rebuild(&pipeline, &[])?;
    for words in [
        "too busy for a swap",
        &format!("locked by process {pid}, nightly report, user postgres, idle in transaction"),
        "in a transaction since 20",
    ] {
        assert!(!done && said.contains(words), "{words}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_the_table_between_two_halves_of_a_rebuild_is_refused_before_anything_is_filled()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    let (done, said) = rebuild(&pipeline, &["--no-swap"])?;
    assert!(done, "{said}");
    for (command, one, other) in [
        ([].as_slice(), "audit_actions", "audit_actions_shadow"),
        (["--rollback"].as_slice(), "audit_actions_shadow", "audit_actions"),
    ] {
        timeline.execute("create unique index host_idx on audit_actions (verb, id)").await?;
        let (done, said) = rebuild(&pipeline, command)?;
        for words in ["only audit_actions has unique index using btree (verb, id)", "--drop-old"] {
            assert!(
                !done && said.contains(words) && !said.contains("filled the new table"),
                "{words}: {said}"
            );
        }
        // Whichever of the two has it: the other is given the same.
        let changed = format!("drop index host_idx; create unique index one_idx on {one} (job_id)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(changed)).execute(&mut timeline).await?;
        assert!(!rebuild(&pipeline, command)?.0);
        let same = format!("create unique index other_idx on {other} (job_id)");
        timeline.execute(sqlx::AssertSqlSafe(same)).await?;
        let (done, said) = rebuild(&pipeline, command)?;
        assert!(done, "{said}");
        sqlx::raw_sql("drop index one_idx, other_idx").execute(&mut timeline).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_whose_second_table_was_dropped_by_hand_begins_again_or_is_given_up() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let mut timeline = pipeline.timeline.connect().await?;
    for next in [[].as_slice(), ["--drop-old"].as_slice()] {
        assert!(rebuild(&pipeline, &["--no-swap"])?.0);
        timeline.execute("drop table audit_actions_shadow").await?;
        let (done, said) = rebuild(&pipeline, next)?;
        assert!(done, "{next:?}: {said}");
        rebuild(&pipeline, &["--drop-old"])?;
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from pg_class where relname like 'audit_actions_journal%')
                  + (select count(*) from pg_proc where proname = 'audit_actions_journal')
                  + (select count(*) from pg_trigger where tgname like 'audit_actions_journal%')",
        )
        .fetch_one(&mut timeline)
        .await?;
        assert_eq!(left, 0, "{next:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_hosts_own_under_the_name_of_the_second_table_is_left_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut timeline = pipeline.timeline.connect().await?;
    timeline
        .execute("create table audit_actions_shadow (id uuid); insert into audit_actions_shadow values (gen_random_uuid())")
        .await?;
    for (arguments, expected) in [
        ([].as_slice(), "no rebuild has made"),
        (&["--no-swap"], "no rebuild has made"),
        (&["--drop-old"], "no rebuild has made"),
        (&["--rollback"], "no table to go back to"),
    ] {
        let (done, said) = rebuild(&pipeline, arguments)?;
        assert!(!done && said.contains(expected), "{arguments:?}: {said}");
    }
    let kept: i64 =
        sqlx::query_scalar("select count(*) from audit_actions_shadow").fetch_one(&mut timeline).await?;
    assert_eq!(kept, 1);
    Ok(())
}

/// What a host keeps beside an action: text, a document, a number that the server gives, and what is generated from the rest.
const OWN_COLUMNS: &str = "
    alter table audit_actions add column tenant text not null default 'none', add column details json,
        add column nth bigint generated always as identity unique,
        add column size integer generated always as (length(name)) stored";

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_the_hosts_own_keep_their_values_through_a_rebuild_and_back() -> anyhow::Result<()> {
    for profile in ["correct", "compat"] {
        let settings = COMPAT.replace("compat", profile);
        let pipeline = Pipeline::with_settings(&settings).await?;
        let mut timeline = pipeline.timeline.connect().await?;
        sqlx::raw_sql(OWN_COLUMNS).execute(&mut timeline).await?;
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        let (rows, ids) = samples(30);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
        pipeline.settled("timeline").await?;
        timeline
            .execute(
                "insert into audit_actions (name, actor_ref, status) values ('host.own', '{}', 'ok');
                 update audit_actions set tenant = 'of ' || id, details = json_build_object('id', id),
                     verb = 'spoilt'",
            )
            .await?;
        let (done, said) = rebuild(&pipeline, &["--no-swap"])?;
        assert!(done, "{profile}: {said}");
        // Changed while the second table waits.
        let change = format!("update audit_actions set tenant = 'changed' where id = '{}'", ids[0]);
        timeline.execute(sqlx::AssertSqlSafe(change)).await?;
        let own = async || -> anyhow::Result<Vec<String>> {
            let own = sqlx::query_scalar(
                "select row(id, tenant, details, nth, size)::text from audit_actions order by id",
            );
            Ok(own.fetch_all(&mut pipeline.timeline.connect().await?).await?)
        };
        let before = own().await?;
        assert_eq!(before.len(), 31);
        for command in [[].as_slice(), &["--rollback"]] {
            let (done, said) = rebuild(&pipeline, command)?;
            assert!(done, "{profile}: {said}");
            assert_eq!(own().await?, before, "{profile}");
            let is_spoilt = row(&pipeline, ids[1]).await?["verb"] == "spoilt";
            assert_eq!(is_spoilt, !command.is_empty(), "{profile}: the rest is what the source says");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_read_the_whole_timeline_say_what_creates_its_missing_table() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    pipeline.timeline.connect().await?.execute("drop table audit_actions cascade").await?;
    for command in [
        ["rebuild"].as_slice(),
        &["rebuild", "--accept-foreign-ids"],
        &["rebuild", "--rollback"],
        &["reconcile"],
        &["reconcile", "--repair"],
    ] {
        let (done, said) = pipeline.command("consumer", command)?;
        let remedy = "there is no table public.audit_actions in the timeline's database: run `threadline install --schema public`";
        assert!(!done && said.contains(remedy), "{command:?}: {said}");
    }
    Ok(())
}
