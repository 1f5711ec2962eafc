//! From Sigra's own forwarder to this one: what that has delivered, under ids of its own, counts once somebody has said so, and
//! everything honours it.

use std::collections::BTreeSet;

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// Rows from before capture, as many of them as asked for delivered as Sigra's forwarder does: an id of the timeline's own, the
/// event's as the correlation id, the time of delivery, and neither verb nor category.
async fn switched(pipeline: &Pipeline, rows: &[AuditRow], delivered: usize) -> anyhow::Result<()> {
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table audit_events disable trigger outbox_capture").await?;
    pipeline.commit(rows).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    deliver(pipeline, &rows[..delivered]).await
}

async fn deliver(pipeline: &Pipeline, rows: &[AuditRow]) -> anyhow::Result<()> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    sqlx::query(
        "insert into audit_actions (name, actor_ref, status, correlation_id)
         select 'test.row', '{\"type\":\"anonymous\"}', 'ok', id from unnest($1::text[]) id",
    )
    .bind(ids)
    .execute(&mut pipeline.timeline.connect().await?)
    .await?;
    Ok(())
}

fn ids(rows: &[AuditRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id).collect()
}

fn reconcile(pipeline: &Pipeline, more: &[&str]) -> anyhow::Result<(bool, Value)> {
    let arguments: Vec<&str> = ["reconcile"].iter().chain(more).copied().collect();
    pipeline.ask("consumer", &arguments)
}

async fn entries(pipeline: &Pipeline, forwarder: &str) -> anyhow::Result<BTreeSet<Uuid>> {
    let rows: Vec<Uuid> =
        sqlx::query_scalar("select audit_event_id from outbox.entries where coalesce(forwarder, '') = $1")
            .bind(forwarder)
            .fetch_all(&mut pipeline.source.connect().await?)
            .await?;
    Ok(rows.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_once_is_there_for_everything_and_is_never_doubled() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (rows, _) = samples(227);
    switched(&pipeline, &rows, 226).await?;
    let (done, said) = pipeline.command("consumer", &["reconcile"])?;
    assert!(!done && said.contains("226 of them are in the timeline under ids of another system"), "{said}");
    let said = pipeline.ask("consumer", &["explain", &rows[0].id.to_string()])?.1;
    assert!(said["diagnosis"].as_str().unwrap().contains("backfill --accept-foreign-ids"), "{said}");

    let (done, dry) = pipeline.ask("publisher", &["backfill", "--accept-foreign-ids", "--dry-run"])?;
    assert!(done, "{dry}");
    assert_eq!((&dry["matched"], &dry["adopted"], &dry["entered"]), (&227.into(), &226.into(), &1.into()));
    let (done, said) = pipeline.command("publisher", &["backfill", "--accept-foreign-ids", "--dry-run"])?;
    assert!(done && said.contains("1 rows would be entered"), "{said}");
    let (_, found) = reconcile(&pipeline, &[])?;
    assert_eq!(found["adopted"], 0, "a dry run adopts nothing");
    let (done, ran) = pipeline.ask("publisher", &["backfill", "--accept-foreign-ids"])?;
    assert!(done, "{ran}");
    for what in ["matched", "adopted", "entered"] {
        assert_eq!(ran[what], dry[what], "{what}");
    }

    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=200ms"])?;
    pipeline.arrive(&ids(&rows[226..])).await?;
    let (live, live_ids) = samples(20);
    pipeline.commit(&live).await?;
    pipeline.arrive(&live_ids).await?;
    pipeline.settled("timeline").await?;
    let equal = |done: bool, found: &Value| {
        assert!(
            done && found["adopted"] == 226 && found["missing"] == 0 && found["elsewhere"] == 0,
            "{found}"
        );
        assert_eq!(found["matched"], 21, "{found}");
    };
    let (done, found) = reconcile(&pipeline, &[])?;
    equal(done, &found);
    let (done, found) = reconcile(&pipeline, &["--repair"])?;
    equal(done, &found);
    assert_eq!(found["repaired"], 0);
    let said = pipeline.ask("consumer", &["explain", &rows[0].id.to_string()])?.1;
    assert_eq!(said["diagnosis"], "it has arrived", "{said}");
    assert!(said["timelines"][0]["state"].as_str().unwrap().starts_with("adopted"), "{said}");

    // Without the word, and by every other way in.
    let (done, again) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done && again["entered"].as_i64() >= Some(247), "{again}");
    let (last, last_ids) = samples(1);
    pipeline.commit(&last).await?;
    pipeline.arrive(&last_ids).await?;
    pipeline.settled("timeline").await?;
    assert_eq!(pipeline.projected().await?, 248, "227 events of before, 21 of now");
    let replay = ["replay", "--from-start", "--overwrite", "--forwarder", "timeline"];
    let (done, said) = pipeline.command("consumer", &replay)?;
    assert!(done, "{said}");
    assert_eq!(pipeline.projected().await?, 248);

    wait::until_some("a receipt", DEADLINE, async || {
        let (done, said) = pipeline.command("consumer", &["reconcile", "--seal"])?;
        let later = said.contains("nothing is known to be delivered") || said.contains("nothing new to seal");
        anyhow::ensure!(done || later, "{said}");
        Ok(Some(()))
    })
    .await?;
    let (done, said) = pipeline.command("consumer", &["receipts", "verify"])?;
    assert!(done, "{said}");
    let (done, said) = pipeline.command("consumer", &["rebuild"])?;
    assert!(done, "{said}");
    assert_eq!(pipeline.projected().await?, 248, "a rebuild carries them over");
    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(done && found["adopted"] == 226, "{found}");
    assert!(!consumer.log().contains("neither in the timeline nor among the failures"), "{}", consumer.log());
    pipeline.charges_nobody().await?;
    Ok(())
}

/// As Sigra's documentation suggests: an index that lets no second action of a correlation id in.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_unique_correlation_id_keeps_out_has_been_delivered_and_stops_nothing() -> anyhow::Result<()> {
    for index in ["(correlation_id)", "(correlation_id) where correlation_id is not null"] {
        let pipeline = Pipeline::new().await?;
        let mut timeline = pipeline.timeline.connect().await?;
        timeline
            .execute(AssertSqlSafe(format!("create unique index by_correlation on audit_actions {index}")))
            .await?;
        // More than the breaker lets pass as dead letters.
        let (rows, _) = samples(120);
        deliver(&pipeline, &rows[..100]).await?;
        pipeline.commit(&rows).await?;
        let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
        let consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=200ms"])?;
        pipeline.arrive(&ids(&rows[100..])).await?;
        pipeline.settled("timeline").await?;
        assert_eq!((pipeline.projected().await?, pipeline.failures().await?), (120, Vec::new()), "{index}");
        wait::until_some("the continuous reconciliation to be past it", DEADLINE, async || {
            let status = pipeline.ask("consumer", &["status"])?.1;
            Ok((status["compared"][0]["checked"].as_i64() >= Some(120)).then_some(()))
        })
        .await?;
        assert_eq!(entries(&pipeline, "timeline").await?, BTreeSet::new(), "nothing enters again: {index}");
        let (done, found) = reconcile(&pipeline, &["--repair"])?;
        assert!(done && found["adopted"] == 100 && found["repaired"] == 0, "{index}: {found}");
        let replay = ["replay", "--from-start", "--overwrite", "--forwarder", "timeline"];
        let (done, said) = pipeline.command("consumer", &replay)?;
        assert!(done, "{said}");
        let (done, said) = pipeline.command("consumer", &["rebuild"])?;
        assert!(done, "{index}: {said}");
        assert_eq!((pipeline.projected().await?, pipeline.failures().await?), (120, Vec::new()), "{index}");
        drop(consumer);
    }
    Ok(())
}

/// A host may record actions of its own beside an event.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_an_adoption_hides_no_loss() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (rows, _) = samples(3);
    switched(&pipeline, &rows[..2], 1).await?;
    let (done, said) = pipeline.command("publisher", &["backfill", "--accept-foreign-ids"])?;
    assert!(done, "{said}");
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    pipeline.commit(&rows[2..]).await?;
    pipeline.arrive(&ids(&rows[1..])).await?;
    pipeline.settled("timeline").await?;
    deliver(&pipeline, &rows[1..]).await?;
    let lost = format!("delete from audit_actions where id = '{}'", rows[2].id);
    pipeline.timeline.connect().await?.execute(AssertSqlSafe(lost)).await?;
    // And of an adopted event whose action is gone.
    let gone = format!("delete from audit_actions where correlation_id = '{}'", rows[0].id);
    pipeline.timeline.connect().await?.execute(AssertSqlSafe(gone)).await?;
    let (done, found) = reconcile(&pipeline, &["--repair"])?;
    assert!(!done && found["missing"] == 2 && found["elsewhere"] == 1 && found["adopted"] == 0, "{found}");
    assert_eq!(found["repaired"], 1, "what nobody holds enters again: {found}");
    pipeline.arrive(&[rows[0].id]).await?;
    drop(consumer);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_event_is_news_to_the_other_forwarders() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n[[forwarder]]\nid = \"siem\"\nkind = \"noop\"",
    )
    .await?;
    let (rows, _) = samples(5);
    switched(&pipeline, &rows, 4).await?;
    let (done, said) =
        pipeline.command("publisher", &["backfill", "--accept-foreign-ids", "--forwarder", "siem"])?;
    assert!(!done && said.contains("no timeline to look into"), "{said}");
    let (done, answer) = pipeline.ask("publisher", &["backfill", "--accept-foreign-ids"])?;
    assert!(done && answer["entered"] == 1, "{answer}");
    let of = |rows: &[AuditRow]| ids(rows).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(entries(&pipeline, "").await?, of(&rows[4..]));
    assert_eq!(entries(&pipeline, "siem").await?, of(&rows[..4]));
    Ok(())
}

/// Its commands in their order, and its statements against the timeline.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_switching_says_what_works() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/switching.md"))?;
    let blocks = |language: &str| -> Vec<String> {
        page.split("```")
            .skip(1)
            .step_by(2)
            .filter_map(|block| block.strip_prefix(language))
            .map(str::to_owned)
            .collect()
    };
    let commands: Vec<String> = blocks("sh\n")
        .concat()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let statements = blocks("sql\n");
    let [who_writes, rewrite, doubled] = &statements[..] else { panic!("{statements:?}") };
    let pipeline = Pipeline::new().await?;
    let mut timeline = pipeline.timeline.connect().await?;
    let (rows, _) = samples(20);
    switched(&pipeline, &rows, 15).await?;
    let (written, _): (i64, time::OffsetDateTime) =
        sqlx::query_as(AssertSqlSafe(who_writes.clone())).fetch_one(&mut timeline).await?;
    assert_eq!(written, 15);

    let mut running = Vec::new();
    let mut ran = BTreeSet::new();
    for line in &commands {
        let mut words = line.split_whitespace();
        let binary = words.next().unwrap();
        let arguments: Vec<&str> = words.collect();
        ran.insert(format!("{binary} {}", arguments[0]));
        match arguments[0] {
            "run" => running.push(pipeline.spawn(binary, &arguments)?),
            "detach" => {
                let (live, live_ids) = samples(5);
                pipeline.commit(&live).await?;
                pipeline.arrive(&live_ids).await?;
                // Sigra's forwarder writes again.
                deliver(&pipeline, &live).await?;
                let (done, said) = pipeline.command(binary, &arguments)?;
                assert!(done, "{line}: {said}");
            }
            "reconcile" => {
                pipeline.arrive(&ids(&rows[15..])).await?;
                pipeline.settled("timeline").await?;
                let (done, found) = pipeline.ask(binary, &arguments)?;
                assert!(done && found["adopted"] == 15 && found["matched"] == 5, "{found}");
            }
            _ => {
                let (done, said) = pipeline.command(binary, &arguments)?;
                assert!(done, "{line}: {said}");
            }
        }
    }
    assert!(ran.len() == 11, "every command of the page: {ran:?}");
    for process in &mut running {
        process.terminate(DEADLINE)?;
    }
    assert_eq!(pipeline.projected().await?, 15 + 5 + 5 + 5, "five are there twice");
    timeline.execute(AssertSqlSafe(doubled.clone())).await?;
    assert_eq!(pipeline.projected().await?, 15 + 5 + 5);
    let rewrite = rewrite.replace("'the time of the switch'", "now()");
    timeline.execute(AssertSqlSafe(rewrite)).await?;
    let (done, found) = reconcile(&pipeline, &["--repair"])?;
    assert!(done && found["repaired"] == 15, "{found}");
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids(&rows)).await?;
    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(done && found["matched"] == 25 && found["adopted"] == 0, "{found}");
    Ok(())
}

/// A role that cannot read what was adopted would write all of it a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_read_what_was_adopted_writes_nothing_twice_and_is_told_the_grant()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (rows, _) = samples(25);
    switched(&pipeline, &rows, 25).await?;
    let (done, said) = pipeline.command("publisher", &["backfill", "--accept-foreign-ids"])?;
    assert!(done, "{said}");
    let mut owner = pipeline.timeline.connect().await?;
    owner.execute("revoke select on audit_adoptions from audit_projector").await?;
    let mut refused = pipeline.consumer()?;
    wait::until_some("the consumer to refuse to start", DEADLINE, async || {
        Ok(refused.has_ended()?.then_some(()))
    })
    .await?;
    let said = refused.log();
    assert!(said.contains("grant select on \"public\".\"audit_adoptions\" to audit_projector"), "{said}");

    // Taken from a consumer that runs, it is an outage: what it writes next waits for the grant.
    owner.execute("grant select on audit_adoptions to audit_projector").await?;
    let consumer = pipeline.consumer()?;
    let _publisher = pipeline.publisher()?;
    let (live, ids) = samples(1);
    pipeline.commit(&live).await?;
    pipeline.arrive(&ids).await?;
    owner.execute("revoke select on audit_adoptions from audit_projector").await?;
    wait::until_some("the consumer to wait for the grant", DEADLINE, async || {
        pipeline.commit(&samples(1).0).await?;
        Ok(consumer.log().contains("permission denied for table audit_adoptions").then_some(()))
    })
    .await?;
    owner.execute("grant select on audit_adoptions to audit_projector").await?;
    let found = wait::until_some("everything to be there", DEADLINE, async || {
        let (done, found) = reconcile(&pipeline, &[])?;
        Ok(done.then_some(found))
    })
    .await?;
    assert_eq!((&found["adopted"], &found["elsewhere"]), (&25.into(), &0.into()), "{found}");
    pipeline.charges_nobody().await?;
    Ok(())
}
