//! Going back: to the beginning of the log after the broker lost data, and into another cluster after a restore.

use crate::{
    outbox::{
        reader::{
            rounds::{self, Append, Round, StreamPosition},
            snapshot::Snapshot,
        },
        system_identifier,
    },
    process::operator_log::{self, ActionKind, OperatorAction},
    session::Session,
};

/// Goes back to the beginning of the log, under a new generation: message ids differ, so that the duplicate window lets
/// everything through. What has been pruned had been settled by every forwarder; the rest is delivered again, without
/// effect where it had arrived.
///
/// What is to be tried again is due at once: the message that would have come again for it may be gone, and what comes in its place is a
/// pack, which waits for nobody.
///
/// The older rows go: a mark is a promise about a stream, and these are no longer true. That the stream begins at `kept`
/// is noted in the same transaction: noted before, a rewind that fails would never be made up for.
///
/// # Errors
/// When the server is away.
pub async fn rewind(
    connection: &mut Session,
    head: &Round,
    kept: StreamPosition,
) -> Result<Append, sqlx::Error> {
    let next = beginning(head, head.system_identifier);
    let mut transaction = connection.begin().await?;
    let opened = rounds::append(&mut transaction, head, &next).await?;
    if let Append::Written(_) = opened {
        delete_rounds_before(&mut transaction, &next).await?;
        rounds::record_trim(&mut transaction, kept).await?;
        let_retries_come(&mut transaction).await?;
        transaction.commit().await?;
        tracing::error!(
            reader = %head.reader,
            generation = next.generation,
            "the broker does not hold what it had acknowledged (a stream lost, recreated, purged or cut short): everything \
             that the log still holds is published again; what had arrived has no second effect"
        );
    } else {
        transaction.rollback().await?;
    }
    Ok(opened)
}

fn beginning(head: &Round, system_identifier: i64) -> Round {
    let empty: Snapshot = Snapshot::EMPTY.parse().expect("a valid constant");
    Round {
        number: head.number + 1,
        from: empty.clone(),
        to: empty,
        resume_after: None,
        generation: head.generation + 1,
        system_identifier,
        mark: None,
        ..head.clone()
    }
}

/// Whatever is to be tried again is tried when it comes.
async fn let_retries_come(connection: &mut Session) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update outbox.failures set next_attempt_at = clock_timestamp()
         where state = 'retrying' and next_attempt_at > clock_timestamp()",
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete_rounds_before(connection: &mut Session, first: &Round) -> Result<(), sqlx::Error> {
    sqlx::query("delete from outbox.rounds where reader = $1 and n < $2")
        .bind(&first.reader)
        .bind(first.number)
        .execute(connection)
        .await?;
    Ok(())
}

/// What became of the cluster that the stored positions belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Dumped and restored: transaction ids have begun again.
    Restored,
    /// `pg_upgrade`: a new identifier, the same transaction ids.
    Upgraded,
}

/// What a rebase did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebased {
    /// Positions that belong to this cluster now.
    pub readers: usize,
    /// Entries whose transaction id lay in this cluster's future, written again.
    pub entries: u64,
}

/// Why positions cannot be rebased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebaseError {
    /// They belong here.
    #[error("every stored position belongs to this cluster already: there is nothing to rebase")]
    Nothing,
    /// `--upgraded` where ids have begun again.
    #[error(
        "transaction ids here ({now}) are behind the stored position ({stored}), so this is no upgraded cluster: run \
         `publisher rebase` without --upgraded"
    )]
    NotUpgraded {
        /// The next transaction id of this cluster.
        now: u64,
        /// The one that a reader has seen.
        stored: u64,
    },
    /// The server is away, or refuses.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// Makes the stored positions this cluster's own, in one transaction. Stop all publishers and consumers first; one that runs
/// on finds its position gone and reads it again.
///
/// # Errors
/// When there is nothing to do, or it would be wrong.
pub async fn rebase(connection: &mut Session, how: Move, actor: &str) -> Result<Rebased, RebaseError> {
    let identifier = system_identifier(connection).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("lock table outbox.rounds in share row exclusive mode").execute(&mut *transaction).await?;
    let heads = rounds::heads(&mut transaction).await?;
    let foreign: Vec<Round> = heads.into_iter().filter(|head| head.system_identifier != identifier).collect();
    if foreign.is_empty() {
        return Err(RebaseError::Nothing);
    }
    let mut entries = 0;
    match how {
        Move::Restored => {
            for head in &foreign {
                let next = beginning(head, identifier);
                rounds::append(&mut transaction, head, &next).await?;
                delete_rounds_before(&mut transaction, &next).await?;
            }
            let_retries_come(&mut transaction).await?;
            entries = rewrite_future(&mut transaction).await?;
        }
        Move::Upgraded => {
            let now = next_xid(&mut transaction).await?;
            for head in &foreign {
                if head.to.xmax() > now {
                    return Err(RebaseError::NotUpgraded { now, stored: head.to.xmax() });
                }
                let next = Round { number: head.number + 1, system_identifier: identifier, ..head.clone() };
                rounds::append(&mut transaction, head, &next).await?;
            }
        }
    }
    let filter = format!("{how:?}: {} reader(s) into cluster {identifier}", foreign.len());
    let action = OperatorAction {
        actor,
        kind: ActionKind::Rebase,
        filter: &filter.to_lowercase(),
        count: entries,
        reason: None,
    };
    operator_log::record(&mut transaction, &action).await?;
    transaction.commit().await?;
    Ok(Rebased { readers: foreign.len(), entries })
}

async fn next_xid(connection: &mut Session) -> Result<u64, sqlx::Error> {
    let text: String = sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text")
        .fetch_one(connection)
        .await?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Entries that came along with ids of the old cluster would look uncommitted here until this cluster had counted that
/// far, which may be years. They are written again, in their order, under this transaction's id.
async fn rewrite_future(connection: &mut Session) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "with future as (
             delete from outbox.entries where xid >= pg_snapshot_xmax(pg_current_snapshot())
             returning seq, audit_event_id, occurred_at, forwarder)
         insert into outbox.entries (audit_event_id, occurred_at, forwarder)
         select f.audit_event_id, f.occurred_at, f.forwarder from future f order by f.seq",
    )
    .execute(&mut *connection)
    .await?;
    // Transaction ids of the old cluster mean nothing here; what was settled under them is owed again, and has no effect
    // where it arrived. How far the stream had been acknowledged when entries were pruned is as true as before.
    sqlx::query("update outbox.horizon set pruned_to = '3'").execute(&mut *connection).await?;
    sqlx::query("update outbox.forwarders set since = '3:3:'").execute(&mut *connection).await?;
    sqlx::query("update outbox.settled set ever = null").execute(connection).await?;
    Ok(done.rows_affected())
}
