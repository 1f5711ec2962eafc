//! A table that lacks columns: whatever is optional may be missing, for every tool.

use common::event::TEXT_COLUMNS;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use uuid::Uuid;

/// What an operator may ask, whatever the table looks like. About all dead letters and rows, and about one event.
fn commands(event: &str) -> Vec<(&'static str, Vec<&str>)> {
    vec![
        ("publisher", vec!["status"]),
        ("publisher", vec!["backfill", "--dry-run"]),
        ("publisher", vec!["backfill", "--since", "1h", "--restart"]),
        ("publisher", vec!["prune"]),
        ("consumer", vec!["status"]),
        ("consumer", vec!["failures", "list"]),
        ("consumer", vec!["failures", "show", event]),
        ("consumer", vec!["failures", "redrive", "--all", "--dry-run"]),
        ("consumer", vec!["failures", "redrive", "--id", event]),
        ("consumer", vec!["failures", "discard", "--all", "--dry-run", "--reason", "none"]),
        ("consumer", vec!["explain", event]),
        ("consumer", vec!["replay", "--forwarder", "timeline", "--from-start"]),
        ("consumer", vec!["receipts", "list"]),
    ]
}

/// Runs all of them.
fn cope(pipeline: &Pipeline, without: &str, event: Uuid) -> anyhow::Result<()> {
    let event = event.to_string();
    for (binary, arguments) in commands(&event) {
        let (done, said) = pipeline.command(binary, &arguments)?;
        if without == "action" && arguments[0] == "replay" {
            // It delivers, which nobody can without the column that the forwarder needs.
            assert!(
                !done && said.contains("has no column action") && said.contains("give it its name back"),
                "{said}"
            );
            continue;
        }
        assert!(done, "{binary} {} without {without}: {said}", arguments.join(" "));
    }
    Ok(())
}

/// A row of what is left of the table.
async fn insert(source: &mut PgConnection) -> anyhow::Result<Uuid> {
    insert_as(source, &AuditRow::sample("test.left")).await
}

/// As much of a row as is left of the table.
async fn insert_as(source: &mut PgConnection, row: &AuditRow) -> anyhow::Result<Uuid> {
    let row = serde_json::to_value(row)?;
    let columns: Vec<String> = sqlx::query_scalar(
        "select quote_ident(attname) from pg_attribute
         where attrelid = 'audit_events'::regclass and attnum > 0 and not attisdropped order by attnum",
    )
    .fetch_all(&mut *source)
    .await?;
    let columns = columns.join(", ");
    let statement = format!(
        "insert into audit_events ({columns}) select {columns} from jsonb_populate_record(null::audit_events, $1) returning id"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(row).fetch_one(source).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_copes_with_every_optional_column_that_is_missing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    // A dead letter, which only a row without the name of an action ends as.
    let nameless = AuditRow::sample("");
    pipeline.commit(std::slice::from_ref(&nameless)).await?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let dead = async |events: &[Uuid]| {
        wait::until_some("the dead letters", DEADLINE, async || {
            let failures = pipeline.failures().await?;
            let dead =
                |id: &Uuid| failures.iter().any(|one| one["ref"] == id.to_string() && one["state"] == "dead");
            Ok(events.iter().all(dead).then_some(()))
        })
        .await
    };
    dead(&[nameless.id]).await?;
    cope(&pipeline, "nothing", nameless.id)?;

    let mut source = pipeline.source.connect().await?;
    // The one that is needed goes last.
    let optional =
        ["inserted_at"].into_iter().chain(TEXT_COLUMNS.into_iter().filter(|name| *name != "action"));
    for column in optional {
        source.execute(AssertSqlSafe(format!("alter table audit_events drop column {column}"))).await?;
        dead(&[nameless.id]).await?;
        cope(&pipeline, column, nameless.id)?;
        let left = insert(&mut source).await?;
        pipeline.arrive(&[left]).await?;
    }
    pipeline.settled("timeline").await?;
    dead(&[nameless.id]).await?;
    let (_, said) = pipeline.command("consumer", &["reconcile", "--repair"])?;
    assert!(!said.contains("does not exist"), "{said}");
    for arguments in [["rebuild"].as_slice(), &["rebuild", "--drop-old"]] {
        let (done, said) = pipeline.command("consumer", arguments)?;
        assert!(done, "{arguments:?}: {said}");
    }

    // Without the one that the forwarder needs delivery is held, and everything else continues.
    let many: Vec<AuditRow> = (0..39).map(|_| AuditRow::sample("")).collect();
    for row in &many {
        insert_as(&mut source, row).await?;
    }
    let dead_letters: Vec<Uuid> = many.iter().map(|row| row.id).chain([nameless.id]).collect();
    dead(&dead_letters).await?;
    source.execute("alter table audit_events drop column action").await?;
    insert(&mut source).await?;
    wait::until("delivery to be held", DEADLINE, || consumer.log().contains("has no column action"))?;
    cope(&pipeline, "action", nameless.id)?;
    let discard = ["failures", "discard", "--all", "--reason", "its row names no action"];
    let (done, answer) = pipeline.ask("consumer", &discard)?;
    assert!(done && answer["done"] == 40, "{answer}");
    let (_, said) = pipeline.command("consumer", &["reconcile"])?;
    assert!(!said.contains("does not exist"), "{said}");
    for refused in [
        ["consumer", "failures", "list", "--action", "a.*"].as_slice(),
        &["consumer", "failures", "redrive", "--action", "a.b"],
        &["publisher", "backfill", "--action", "a.b"],
    ] {
        let (done, said) = pipeline.command(refused[0], &refused[1..])?;
        assert!(
            !done && said.contains("has no column \"action\": leave out --action"),
            "{refused:?}: {said}"
        );
    }
    Ok(())
}
