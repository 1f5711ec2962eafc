//! What columns and indexes that are for reading cost whoever writes.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    ActorRef, ActorType, AuditAction, StorageSchema,
    action::insert_batch,
    capture::{HostTable, Migration, Policy, plan},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AFTER, BEFORE, WRITES, timing::Times};
use crate::{cases::Bench, meter, results::Usage};

/// Actions of a batch.
const BATCH: u64 = 1_000;

/// Rows of the long statement.
const BULK: u64 = 10_000;

/// Single rows for each batch.
const SINGLES: u32 = 20;

const TABLE: &str = "create table accounts (id bigint primary key, email text, name text, status text, amount numeric, note text,
    updated_at timestamptz)";

const INSERT: &str =
    "insert into accounts select g, 'user' || g || '@example.test', 'Name ' || g, 'active', g * 1.25,
    'a note of some words about this row', clock_timestamp() from generate_series($1, $2) g";

/// Who writes, and why: indexes of actors and correlation ids have an entry for each transaction then.
const CONTEXT: &str = r#"select set_config('threadline.actor_ref', '{"type": "user", "id": "u1"}', false),
    set_config('threadline.context', '{"correlation_id": "c1", "request_id": "r1", "source": "web"}', false)"#;

/// Rows that were written, and changes of them that were recorded.
const RECORDED: &str =
    "select (select count(*) from accounts), (select count(*) from audit_changes where table_name = 'accounts'),
            (select count(*) from audit_transactions where correlation_id = 'c1' and actor_ref ->> 'id' = 'u1' and txid > 0)";

/// A database with the session that writes into it.
struct Side {
    variant: &'static str,
    connection: PgConnection,
    /// The process of the session.
    backend: u32,
    /// How much was written.
    count: u64,
}

/// What is written.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Batch,
    Single,
    Bulk,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "projection, batch of 1,000 actions",
            Self::Single => "capture, insert of one row",
            Self::Bulk => "capture, insert of 10,000 rows",
        }
    }

    fn rows(self) -> u64 {
        match self {
            Self::Batch => BATCH,
            Self::Single => 1,
            Self::Bulk => BULK,
        }
    }
}

/// Makes a table whose changes are captured.
pub(in crate::cases) async fn capture(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(TABLE).await?;
    let table: HostTable = "accounts".parse()?;
    let section = json!({"level": "statement"});
    let policy = Policy::read(&table, &section.as_object().cloned().unwrap_or_default())?;
    let captures = plan(&mut connection, &StorageSchema::default(), &[(table, policy)]).await?;
    connection.execute(AssertSqlSafe(Migration::new(&captures, 1, |_| false).up)).await?;
    connection.execute("checkpoint").await?;
    Ok(connection.close().await?)
}

/// Both databases in turns.
pub(super) async fn take(
    bench: &mut Bench<'_>,
    before: &str,
    after: &str,
    repeat: u32,
) -> anyhow::Result<()> {
    let mut sides = [Side::of(BEFORE, before).await?, Side::of(AFTER, after).await?];
    let batches = bench.plan.batches;
    for (kind, times) in
        [(Kind::Batch, batches), (Kind::Single, batches * SINGLES), (Kind::Bulk, batches / 4)]
    {
        for _ in 0..2 {
            for side in &mut sides {
                side.write(kind).await?;
            }
        }
        let mut taken = [Times::default(), Times::default()];
        let begun = [sides[0].taken(), sides[1].taken()];
        for number in 0..times {
            // Whoever comes second finds the disk as the first has left it.
            for index in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                let begun = Instant::now();
                sides[index].write(kind).await?;
                taken[index].add(begun.elapsed());
            }
        }
        for ((side, taken), begun) in sides.iter().zip(taken).zip(begun) {
            let case = format!("{WRITES}{}", kind.name());
            let mut sample = taken.sample(&case, side.variant, repeat);
            sample.rows = u64::from(times) * kind.rows();
            let usage = Usage { cpu_seconds: side.taken().cpu_seconds - begun.cpu_seconds, ..side.taken() };
            sample.processes.insert("postgres".to_owned(), usage);
            bench.keep(sample).await?;
        }
    }
    for side in sides {
        side.close().await?;
    }
    Ok(())
}

impl Side {
    async fn of(variant: &'static str, url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(CONTEXT).await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        Ok(Self { variant, connection, backend: backend.cast_unsigned(), count: 0 })
    }

    /// What the session's process has taken so far.
    fn taken(&self) -> Usage {
        meter::usage(self.backend).unwrap_or_default()
    }

    /// After a look at whether everything was recorded.
    async fn close(mut self) -> anyhow::Result<()> {
        let (rows, changes, transactions): (i64, i64, i64) =
            sqlx::query_as(RECORDED).fetch_one(&mut self.connection).await?;
        let variant = self.variant;
        ensure!(changes == rows, "{variant}: {changes} changes were recorded of {rows} rows");
        ensure!(transactions > 0, "{variant}: no transaction says who wrote it");
        Ok(self.connection.close().await?)
    }

    async fn write(&mut self, kind: Kind) -> anyhow::Result<()> {
        let from = self.count + 1;
        self.count += kind.rows();
        match kind {
            Kind::Batch => {
                let table = StorageSchema::default().actions();
                let actions = (from..=self.count).map(action).collect::<Result<Vec<_>, _>>()?;
                let inserted = insert_batch(&mut self.connection, &table, &actions).await?;
                ensure!(inserted.written.len() == actions.len(), "actions were there already");
            }
            Kind::Single | Kind::Bulk => {
                sqlx::query(INSERT)
                    .bind(from.cast_signed())
                    .bind(self.count.cast_signed())
                    .execute(&mut self.connection)
                    .await?;
            }
        }
        Ok(())
    }
}

/// As the pipeline writes it.
fn action(number: u64) -> anyhow::Result<AuditAction> {
    // Spread over the index as random ids are, the same in both databases.
    let id = Uuid::from_u64_pair(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number);
    let actor = ActorRef::new(ActorType::User, Some(format!("u{}", number % 5_003)))?;
    let mut action = AuditAction::new(id, "auth.login", actor, OffsetDateTime::now_utc());
    action.verb = Some("login".to_owned());
    action.category = Some("auth".to_owned());
    action.correlation_id = Some(id.to_string());
    action.request_id = Some(format!("request-{number}"));
    Ok(action)
}
