//! A reader for tests, stepped by hand: the same calls that the relay makes, in the same order.

use common::{
    outbox::{
        reader::{
            pages::Pages,
            rounds::{self, Append, Round},
        },
        system_identifier,
    },
    session::Session,
};
use sqlx::Row as _;
use uuid::Uuid;

pub(crate) const READER: &str = "test";

/// Everything unread, in bounded pages; stops after `pages_max` pages, as a crash would. Answers the ids in the order
/// in which they were handed over.
pub(crate) async fn read(
    connection: &mut Session,
    page_rows: usize,
    pages_max: usize,
) -> anyhow::Result<Vec<Uuid>> {
    let identifier = system_identifier(connection).await?;
    let mut head = rounds::head(connection, READER, identifier).await?;
    let mut ids = Vec::new();
    let mut pages_read = 0;
    loop {
        if !head.is_closed() {
            let mut pages = Pages::new(head.clone(), page_rows);
            loop {
                if pages_read == pages_max {
                    return Ok(ids);
                }
                pages_read += 1;
                let page = pages.next(connection).await?;
                if page.is_empty() {
                    break;
                }
                assert!(
                    page.len() <= page_rows,
                    "a page of {} rows, at most {page_rows} asked for",
                    page.len()
                );
                ids.extend(page.into_iter().map(|entry| entry.audit_event_id.expect("captured")));
            }
        }
        match rounds::open(connection, &head, None, false).await? {
            Append::Written(round) => head = round,
            Append::NothingUnread if head.is_closed() => return Ok(ids),
            Append::NothingUnread => {
                let closing = Round {
                    number: head.number + 1,
                    from: head.to.clone(),
                    resume_after: None,
                    ..head.clone()
                };
                let Append::Written(closed) = rounds::append(connection, &head, &closing).await? else {
                    anyhow::bail!("nobody else reads here");
                };
                head = closed;
            }
            Append::Fenced => head = rounds::head(connection, READER, identifier).await?,
        }
    }
}

/// Everything unread, without a crash.
pub(crate) async fn read_all(connection: &mut Session, page_rows: usize) -> anyhow::Result<Vec<Uuid>> {
    read(connection, page_rows, usize::MAX).await
}

/// Inserts `count` audit rows with one statement.
pub(crate) async fn insert(connection: &mut Session, count: i32) -> anyhow::Result<Vec<Uuid>> {
    let rows = sqlx::query(
        "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
         select gen_random_uuid(), now() at time zone 'UTC', 'test.row', 'success', now() at time zone 'UTC'
         from generate_series(1, $1) returning id",
    )
    .bind(count)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ids of all committed audit rows, sorted.
pub(crate) async fn committed(connection: &mut Session) -> anyhow::Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("select id from audit_events order by id").fetch_all(connection).await?)
}

/// The same ids, sorted.
pub(crate) fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids
}
