//! Readers say what was purged.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    query::Scope,
    retention::{Purgeable, horizon},
};
use uuid::Uuid;

use super::{Host, commands::assert_answers, host, table};

/// The run of a number.
fn run(number: u8) -> Uuid {
    Uuid::from_u128(0xd000_0000_0000_4000_8000_0000_0000_0000 + u128::from(number))
}

impl Host {
    /// A run that ended on this day of May, with these windows; without, one of the library's.
    async fn ran(
        &mut self,
        number: u8,
        status: &str,
        deleted: i64,
        windows: Option<Value>,
    ) -> anyhow::Result<()> {
        let statement = format!(
            "insert into threadline_retention_runs (id, status, deleted_count, deleted_changes, deleted_actions, started_at, completed_at, holder, windows)
             values ($1, $2, $3, $3, case when $4::jsonb is not null then $3 end, '2026-05-{number:02} 12:00:00Z', '2026-05-{number:02} 12:00:01Z', case when $4::jsonb is not null then 'p' end, $4)"
        );
        sqlx::query(AssertSqlSafe(statement))
            .bind(run(number))
            .bind(status)
            .bind(i32::try_from(deleted)?)
            .bind(windows)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// In words.
    async fn horizon(&self, of: Purgeable<'_>) -> anyhow::Result<Option<String>> {
        let reader = self.timeline.reader(Scope::everything());
        Ok(horizon(&reader, of).await?.map(|horizon| horizon.to_string()))
    }
}

fn day(day: u8) -> String {
    format!("2026-01-{day:02}T00:00:00.000000Z")
}

#[tokio::test]
async fn the_horizon_is_the_latest_cutoff_of_a_run_that_counts() -> anyhow::Result<()> {
    let mut host = host().await?;
    let (posts, sessions, invoices) = (table("posts"), table("sessions"), table("billing.invoices"));
    assert_eq!(host.horizon(Purgeable::Changes).await?, None);
    let windows = |of_all: u8, of_sessions: u8| {
        Some(
            json!({"default": day(of_all), "tables": {"public.sessions": day(of_sessions), "billing.invoices": null}, "actions": null}),
        )
    };
    host.ran(1, "completed", 5, windows(3, 8)).await?;
    // An earlier cutoff; those that have deleted nothing; one that is running; what nobody can read.
    host.ran(10, "completed", 0, windows(19, 19)).await?;
    host.ran(2, "completed", 5, windows(2, 7)).await?;
    host.ran(3, "failed", 0, windows(20, 20)).await?;
    host.ran(4, "running", 0, windows(21, 21)).await?;
    host.ran(5, "completed", 5, Some(json!({"default": "zzz", "tables": ["public.sessions"]}))).await?;
    host.ran(6, "completed", 5, Some(json!("text"))).await?;
    let said = |cutoff: u8, number: u8| {
        Some(format!("older than 2026-01-{cutoff:02}T00:00:00Z: purged by run {}", run(number)))
    };
    assert_eq!(host.horizon(Purgeable::Table(&posts)).await?, said(3, 1));
    assert_eq!(host.horizon(Purgeable::Table(&sessions)).await?, said(8, 1));
    assert_eq!(host.horizon(Purgeable::Table(&invoices)).await?, None);
    assert_eq!(host.horizon(Purgeable::Actions).await?, None);
    let of_all = format!(
        "older than 2026-01-03T00:00:00Z, of some tables 2026-01-08T00:00:00Z: purged by run {}",
        run(1)
    );
    assert_eq!(host.horizon(Purgeable::Changes).await?, Some(of_all));
    // What has deleted something before it failed counts.
    host.ran(7, "failed", 500, Some(json!({"default": day(9), "tables": {}, "actions": day(4)}))).await?;
    assert_eq!(host.horizon(Purgeable::Table(&invoices)).await?, said(9, 7));
    assert_eq!(host.horizon(Purgeable::Changes).await?, said(9, 7));
    assert_eq!(host.horizon(Purgeable::Actions).await?, said(4, 7));
    // The library does not say its cutoff; it purges no actions.
    host.ran(8, "completed", 0, None).await?;
    assert_eq!(host.horizon(Purgeable::Changes).await?, said(9, 7));
    host.ran(9, "completed", 5, None).await?;
    let library = format!("purged by run {} on 2026-05-09T12:00:01Z; its cutoff is not known", run(9));
    assert_eq!(host.horizon(Purgeable::Table(&posts)).await?, Some(library));
    assert_eq!(host.horizon(Purgeable::Actions).await?, said(4, 7));
    Ok(())
}

/// A row of before and one of after what was purged.
const TIMELINE: &str = "
    create table posts (id int primary key); create table sessions (id int primary key);
    insert into audit_transactions (id, txid, occurred_at) values ('b0000000-0000-4000-8000-000000000001', 1, '2026-02-01 12:00:00Z');
    insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at, changed_fields) values
        ('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001', 'public', 'posts', '{\"id\": \"7\"}', 'update',
         '{\"id\": 7, \"note\": \"new\"}', '2026-02-01 12:00:00Z', '{note}')";

/// Each answer that may lack something says so, and no other.
#[tokio::test]
async fn an_answer_that_may_lack_something_says_which_run_purged_it() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection.execute(TIMELINE).await?;
    let windows = json!({"default": day(3), "tables": {"public.sessions": day(20)}, "actions": day(2)});
    host.ran(1, "completed", 5, Some(windows)).await?;
    assert_answers(
        &host.database,
        "horizon.txt",
        &[
            &["timeline"],
            &["timeline", "--json"],
            &["timeline", "from:2026-01-10"],
            &["timeline", "from:2026-01-25"],
            &["timeline", "table:posts", "from:2026-01-10"],
            &["timeline", "table:sessions"],
            &["timeline", "table:nowhere"],
            &["timeline", "--limit", "1", "kind:change"],
            &["actions"],
            &["actions", "from:2026-01-10"],
            &["history", "posts", "7"],
            &["as-of", "posts", "7", "--at", "2026-01-15"],
            &["as-of", "posts", "7", "--at", "2026-01-15", "--json"],
            &["as-of", "posts", "7", "--at", "2026-02-02"],
            &["as-of", "posts", "--at", "2026-02-02"],
            &["as-of", "sessions", "--at", "2026-02-02"],
            &["blame", "posts", "7"],
            &["blame", "posts", "7", "--at", "2026-01-15"],
        ],
    )?;
    host.connection.execute("update threadline_retention_runs set holder = null, windows = null").await?;
    assert_answers(
        &host.database,
        "horizon_of_library.txt",
        &[
            &["timeline", "from:2026-01-25"],
            &["history", "posts", "7"],
            &["as-of", "posts", "7", "--at", "2026-01-15"],
            &["as-of", "posts", "7", "--at", "2026-01-15", "--json"],
        ],
    )?;
    host.connection.execute("delete from threadline_retention_runs").await?;
    assert_answers(
        &host.database,
        "no_horizon.txt",
        &[&["timeline"], &["as-of", "posts", "7", "--at", "2026-01-15"], &["blame", "posts", "7"]],
    )?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_has_deleted_nothing_of_a_table_is_not_named_for_it() -> anyhow::Result<()> {
    let mut host = host().await?;
    let (posts, sessions) = (table("posts"), table("sessions"));
    let windows = |day_of_month: u8| {
        let of_sessions = json!({"public.sessions": day(day_of_month + 4)});
        Some(json!({"default": day(day_of_month), "tables": of_sessions, "actions": day(day_of_month)}))
    };
    host.ran(1, "completed", 7, windows(3)).await?;
    host.ran(2, "completed", 5, windows(9)).await?;
    host.connection
        .execute(
            "update threadline_retention_runs set deleted_tables = '{\"public.posts\": 7}', deleted_actions = 1 where deleted_count = 7;
             update threadline_retention_runs set deleted_tables = '{\"public.posts\": 0, \"public.sessions\": 5}', deleted_actions = 0 where deleted_count = 5",
        )
        .await?;
    let said = |cutoff: u8, number: u8| {
        Some(format!("older than 2026-01-{cutoff:02}T00:00:00Z: purged by run {}", run(number)))
    };
    assert_eq!(host.horizon(Purgeable::Table(&posts)).await?, said(3, 1));
    assert_eq!(host.horizon(Purgeable::Table(&sessions)).await?, said(13, 2));
    assert_eq!(host.horizon(Purgeable::Actions).await?, said(3, 1));
    // It was made after both.
    assert_eq!(host.horizon(Purgeable::Table(&table("fresh"))).await?, None);
    let reader = host.timeline.reader(Scope::everything());
    let of_all = horizon(&reader, Purgeable::Changes).await?.unwrap();
    assert_eq!(of_all.tables.as_deref(), Some(&["public.sessions".to_owned()][..]));
    assert!(of_all.to_string().contains(", of some tables 2026-01-13"), "{of_all}");
    Ok(())
}

#[tokio::test]
async fn whoever_may_not_see_runs_is_told_nothing_and_reads_on() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.ran(1, "completed", 1, Some(json!({"default": day(1)}))).await?;
    host.connection.execute("alter table threadline_retention_runs drop column windows").await?;
    assert_eq!(host.horizon(Purgeable::Changes).await?, None);
    host.connection.execute("drop table threadline_retention_runs").await?;
    assert_eq!(host.horizon(Purgeable::Changes).await?, None);
    Ok(())
}
