//! What `docs/events.md` says of an event and of what becomes of it.

use std::collections::BTreeSet;

use common::event::TEXT_COLUMNS;
use end_to_end::{DEADLINE, Pipeline};
use sandbox::{fixture, rights, wait};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use threadline::StorageSchema;
use uuid::Uuid;

const PAGE: &str = include_str!("../../docs/events.md");

/// The statements of the page.
fn statements() -> Vec<&'static str> {
    PAGE.split("```sql\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// The rows of the table whose head begins like this, without the quotes of code.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = PAGE.split_once(&format!("\n| {head} |")).unwrap_or_else(|| panic!("no table {head}"));
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

/// What a cell stands for in SQL.
fn value(cell: &str) -> Option<&str> {
    (cell != "NULL" && !cell.is_empty()).then_some(cell)
}

/// A pipeline whose source has the table of the page, changed by `change`, with a forwarder of each profile.
async fn pipeline(change: &str) -> anyhow::Result<Pipeline> {
    let compat = fixture::empty_database().await?;
    let mut pipeline = Pipeline::new().await?;
    let schema: StorageSchema = "compat".parse()?;
    let mut timeline = pipeline.timeline.connect().await?;
    threadline::install(&mut timeline, &schema).await?;
    rights::grant_timeline(&mut pipeline.timeline.superuser().await?, &schema).await?;
    pipeline.configure(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"compat\"\nkind = \"threadline\"\nprofile = \"compat\"\nschema = \"compat\"",
    )?;
    pipeline.source = compat;
    let mut source = pipeline.source.connect().await?;
    source.execute(AssertSqlSafe(format!("{}; {change}", statements()[0]))).await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done, "{said}");
    rights::grant_source(&mut pipeline.source.superuser().await?).await?;
    Ok(pipeline)
}

/// An action of a schema, each column as text.
async fn action(
    pipeline: &Pipeline,
    schema: &str,
    id: Uuid,
    columns: &str,
) -> anyhow::Result<Vec<Option<String>>> {
    let mut connection = pipeline.timeline.connect().await?;
    connection.execute("set time zone 'UTC'").await?;
    let statement = format!("select {columns} from {schema}.audit_actions where id = $1");
    let row = wait::until_some("the action", DEADLINE, async || {
        Ok(sqlx::query(AssertSqlSafe(statement.as_str())).bind(id).fetch_optional(&mut connection).await?)
    })
    .await?;
    (0..row.len()).map(|place| Ok(row.try_get(place)?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_page_becomes_the_action_that_it_shows() -> anyhow::Result<()> {
    let pipeline = pipeline("").await?;
    let mut source = pipeline.source.connect().await?;
    source.execute(statements()[1]).await?;
    let id: Uuid = sqlx::query_scalar("select id from audit_events").fetch_one(&mut source).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let rows = table("column | value | from");
    assert_eq!(rows.len(), 12, "every column: {rows:?}");
    let columns: Vec<String> = rows.iter().map(|row| format!("{}::text", row[0])).collect();
    let found = action(&pipeline, "public", id, &columns.join(", ")).await?;
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found.as_deref(), value(row[1]), "{}", row[0]);
    }
    let dropped = "category, verb, reason, request_id, actor_ref ->> 'type', \
                   (inserted_at > now() - interval '1 hour')::text";
    let compat = action(&pipeline, "compat", id, dropped).await?;
    let [category, verb, reason, request, kind, delivered] = &compat[..] else { panic!("{compat:?}") };
    assert_eq!([category, verb, reason, request], [&None, &None, &None, &None]);
    assert_eq!((kind.as_deref(), delivered.as_deref()), (Some("user"), Some("true")));
    Ok(())
}

#[test]
fn the_page_describes_every_column_of_the_table() {
    let described: BTreeSet<&str> = table("column | needed by | type").iter().map(|row| row[0]).collect();
    let created = statements()[0].lines().filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
    assert_eq!(described, created.collect());
    let read = TEXT_COLUMNS.into_iter().chain(["id", "occurred_at", "inserted_at"]);
    assert_eq!(described, read.collect());
}

/// Inserts one event with a column or two of the page's table; answers its id.
async fn insert(source: &mut PgConnection, columns: [&str; 2], cells: [&str; 2]) -> anyhow::Result<Uuid> {
    let [first, second] = columns;
    let others =
        [("occurred_at", "now()"), ("inserted_at", "now()"), ("action", "'a.b'"), ("outcome", "'success'")];
    let others = others.into_iter().filter(|(name, _)| !columns.contains(name));
    let (names, values): (Vec<_>, Vec<_>) = others.unzip();
    let kinds = format!(
        "(jsonb_populate_record(null::audit_events, jsonb_build_object('{first}', $1::text, '{second}', $2::text)))"
    );
    let statement = format!(
        "insert into audit_events (id, {}, {first}, {second})
         values (gen_random_uuid(), {}, {kinds}.{first}, {kinds}.{second}) returning id",
        names.join(", "),
        values.join(", ")
    );
    let query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(value(cells[0])).bind(value(cells[1]));
    Ok(query.fetch_one(source).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_actors_and_times_become_what_the_tables_of_the_page_say() -> anyhow::Result<()> {
    // What any application may have done to its table.
    let loosened = "alter table audit_events alter occurred_at drop not null, alter inserted_at drop not null,
                        alter outcome drop not null, alter actor_type drop not null, alter actor_id type text;";
    let pipeline = pipeline(loosened).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let mut source = pipeline.source.connect().await?;
    for row in table("outcome | `correct` | `compat`") {
        let id = insert(&mut source, ["outcome", "actor_type"], [row[0], "user"]).await?;
        for (schema, status) in [("public", row[1]), ("compat", row[2])] {
            let found = action(&pipeline, schema, id, "status").await?;
            assert_eq!(found[0].as_deref(), Some(status), "{schema}: {row:?}");
        }
    }
    for row in table("actor_id | actor_type | `correct` | `compat`") {
        let id = insert(&mut source, ["actor_id", "actor_type"], [row[0], row[1]]).await?;
        for (schema, actor) in [("public", row[2]), ("compat", row[3])] {
            let found =
                action(&pipeline, schema, id, "concat_ws(' ', actor_ref ->> 'type', actor_ref ->> 'id')")
                    .await?;
            assert_eq!(found[0].as_deref(), Some(actor), "{schema}: {row:?}");
        }
    }
    for row in table("occurred_at | inserted_at | the action's `inserted_at`") {
        let id = insert(&mut source, ["occurred_at", "inserted_at"], [row[0], row[1]]).await?;
        let found = action(
            &pipeline,
            "public",
            id,
            "inserted_at::text, (inserted_at > now() - interval '1 hour' \
                                                     and inserted_at <= clock_timestamp())::text",
        )
        .await?;
        if row[2] == "the time of delivery" {
            assert_eq!(found[1].as_deref(), Some("true"), "{row:?}: {found:?}");
        } else {
            assert_eq!(found[0].as_deref(), Some(row[2]), "{row:?}");
        }
        let entry: Option<String> =
            sqlx::query_scalar("select occurred_at::text from outbox.entries where audit_event_id = $1")
                .bind(id)
                .fetch_optional(&mut source)
                .await?
                .flatten();
        assert!(value(row[0]).is_some() || entry.is_none(), "NULL stays NULL: {row:?}: {entry:?}");
    }
    assert_eq!(pipeline.failures().await?.len(), 0);
    let nobody: Uuid = sqlx::query_scalar(
        "insert into audit_events (id, occurred_at, action, outcome, actor_id, inserted_at)
         values (gen_random_uuid(), now(), 'a.b', 'success', '', now()) returning id",
    )
    .fetch_one(&mut source)
    .await?;
    assert_eq!(
        action(&pipeline, "public", nobody, "actor_ref ->> 'type'").await?[0].as_deref(),
        Some("anonymous")
    );
    let dead_letter =
        wait::until_some("the dead dead_letter", DEADLINE, async || Ok(pipeline.failures().await?.pop()))
            .await?;
    assert_eq!(
        (&dead_letter["forwarder"], &dead_letter["reason"], &dead_letter["error"]),
        (&"compat".into(), &"schema_mismatch".into(), &"missing_actor".into())
    );
    Ok(())
}
