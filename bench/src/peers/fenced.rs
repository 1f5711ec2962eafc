//! One reader of a log table, in the order of transaction ids, that never passes a transaction which still runs.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BATCH, Pause, connect};
use crate::forward::{Forward, Route};

pub(super) const LACKS: &str = "The oldest transaction of the whole server that has written anything stalls it, in any \
    database (PostgreSQL's documentation of pg_snapshot_xmin); only one reader may run, and nothing \
    keeps a second from starting; the log grows until somebody trims it; a row that cannot be forwarded stops all \
    that follow (its code: peers/fenced.rs).";

pub(super) const TABLES: &str = "
    create table if not exists public.bench_log (
        xid            xid8   not null default pg_current_xact_id(),
        seq            bigint not null generated always as identity,
        audit_event_id uuid   not null,
        primary key (xid, seq)
    );
    create table if not exists public.bench_position (
        sole boolean primary key default true check (sole),
        xid  xid8    not null default '0',
        seq  bigint  not null default 0
    );
    insert into public.bench_position default values on conflict do nothing";

pub(super) const FILL: &str = "
    insert into public.bench_log (audit_event_id) select id from public.audit_events order by inserted_at, id";

pub(super) const ENQUEUE: &str = "insert into public.bench_log (audit_event_id) values (new.id)";

/// Up to where the log has been forwarded. The driver knows no `xid8`, so it travels as text.
struct Position {
    xid: String,
    seq: i64,
}

pub(super) async fn work(source_url: &str, route: Route, stop: CancellationToken) -> anyhow::Result<()> {
    let mut log = connect(source_url).await?;
    let mut forward = route.connect().await?;
    let mut position = load(&mut log).await?;
    let mut pause = Pause::new();
    while !stop.is_cancelled() {
        let taken = round(&mut log, &mut forward, &mut position).await?;
        pause.after(taken, &stop).await;
    }
    log.close().await.context("leaving the log")
}

/// Reads a batch, forwards it, keeps the position. Ended before that, the batch is forwarded again, without effect.
async fn round(
    log: &mut PgConnection,
    forward: &mut Forward,
    position: &mut Position,
) -> anyhow::Result<usize> {
    let rows: Vec<(String, i64, Uuid)> = sqlx::query_as(
        "select xid::text, seq, audit_event_id from public.bench_log
         where xid < pg_snapshot_xmin(pg_current_snapshot()) and (xid, seq) > ($1::text::xid8, $2)
         order by public.bench_log.xid, seq limit $3",
    )
    .bind(&position.xid)
    .bind(position.seq)
    .bind(BATCH)
    .fetch_all(&mut *log)
    .await
    .context("reading the log")?;
    let Some((xid, seq, _)) = rows.last() else {
        return Ok(0);
    };
    *position = Position { xid: xid.clone(), seq: *seq };
    let ids: Vec<Uuid> = rows.iter().map(|(_, _, id)| *id).collect();
    forward.rows(&ids).await?;
    store(log, position).await?;
    Ok(ids.len())
}

async fn load(log: &mut PgConnection) -> anyhow::Result<Position> {
    let (xid, seq) = sqlx::query_as("select xid::text, seq from public.bench_position")
        .fetch_one(log)
        .await
        .context("the reader's position: prepare its tables first")?;
    Ok(Position { xid, seq })
}

async fn store(log: &mut PgConnection, position: &Position) -> anyhow::Result<()> {
    sqlx::query("update public.bench_position set xid = $1::text::xid8, seq = $2")
        .bind(&position.xid)
        .bind(position.seq)
        .execute(log)
        .await
        .context("keeping the reader's position")?;
    Ok(())
}
