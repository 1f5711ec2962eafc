//! Writes a batch of actions, and says what became of each.

use std::{borrow::Cow, time::Duration};

use common::{
    failures::Reason,
    fault::{Fault, classify},
};
use sqlx::PgConnection;
use threadline::{
    AuditAction,
    action::{self, Inserted},
    verified,
};
use uuid::Uuid;

use super::{TimelineForwarder, preflight};
use crate::forwarder::{ForwardError, Verdict};

/// How often a statement is repeated after a conflict with a concurrent transaction.
const CONFLICT_ATTEMPTS: u32 = 3;

/// What is expected of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// None of the actions is there.
    New,
    /// Some may be there.
    MayConflict,
    /// Something of the host's acts on what is written.
    Verified,
}

/// Writes a batch of actions.
///
/// # Errors
/// When the timeline is away or fails for all of them; what some of them fail for is to be tried with fewer.
pub(super) async fn write(
    connection: &mut PgConnection,
    timeline: &TimelineForwarder,
    actions: &[AuditAction],
    way: Way,
) -> Result<Inserted, ForwardError> {
    let mut attempt = 1;
    let mut delivered = None;
    let mut absent = Cow::Borrowed(actions);
    loop {
        match write_once(connection, timeline, &absent, way).await {
            Ok(mut inserted) => {
                inserted.present.extend(delivered.unwrap_or_default());
                return Ok(inserted);
            }
            Err(error) => match classify(&error) {
                Fault::Conflict if attempt < CONFLICT_ATTEMPTS => attempt += 1,
                // A trigger of the host's may refuse a second time what it let in: that is left out.
                Fault::Event | Fault::Statement | Fault::Table
                    if delivered.is_none() && !timeline.overwrite =>
                {
                    let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
                    // Where this fails too, the next attempt says how.
                    let present =
                        action::present(connection, &timeline.table, &ids).await.unwrap_or_default();
                    absent.to_mut().retain(|action| !present.contains(&action.id));
                    delivered = Some(present);
                    continue;
                }
                Fault::Event => return Err(ForwardError::Rejected(errors::database(&error))),
                Fault::Statement => return Err(failed(&error)),
                Fault::Table => return Err(preflight::classify_failure(timeline, &error).await),
                Fault::Conflict | Fault::Unavailable => return Err(unavailable(&error)),
            },
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn write_once(
    connection: &mut PgConnection,
    TimelineForwarder { table, overwrite, mapping, .. }: &TimelineForwarder,
    actions: &[AuditAction],
    way: Way,
) -> Result<Inserted, sqlx::Error> {
    if *overwrite {
        return verified::overwrite(connection, table, actions, mapping.keeps_time()).await;
    }
    match way {
        Way::Verified => verified::insert(connection, table, actions).await,
        Way::MayConflict => action::insert_batch(connection, table, actions).await,
        Way::New => match action::insert_new(connection, table, actions).await? {
            Some(inserted) => Ok(inserted),
            None => action::insert_batch(connection, table, actions).await,
        },
    }
}

/// What became of one of them.
pub(super) fn verdict_of(id: Uuid, inserted: &Inserted) -> Verdict {
    // Nearly always empty: looked through, not indexed.
    if inserted.conflicting.contains(&id) {
        return Verdict::DeadLetter(
            Reason::IdConflict,
            "the timeline holds another action under this id".to_owned(),
        );
    }
    if inserted.swallowed.contains(&id) {
        return Verdict::DeadLetter(
            Reason::NotWritten,
            "the timeline took the action and did not keep it under its id: look for a trigger that returns NULL, changes \
             the id or removes the action, or for a rule, on audit_actions"
                .to_owned(),
        );
    }
    if let Some((_, error)) = inserted.refused.iter().find(|(refused, _)| *refused == id) {
        return Verdict::DeadLetter(Reason::SchemaMismatch, format!("timeline database: {error}"));
    }
    if inserted.present.contains(&id) { Verdict::AlreadyDelivered } else { Verdict::Delivered }
}

pub(super) fn failed(error: &sqlx::Error) -> ForwardError {
    ForwardError::Failed(format!("timeline database: {}", errors::database(error)))
}

pub(super) fn unavailable(error: &sqlx::Error) -> ForwardError {
    ForwardError::unavailable(format!("timeline database: {}", errors::database(error)))
}
