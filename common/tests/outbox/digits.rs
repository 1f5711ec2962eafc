//! Transaction ids of different lengths: as text, 1000 sorts before 999.

use common::{outbox, session::Session};
use sandbox::{
    fixture::{self, TestDatabase},
    postgres::Postgres,
    work_dir::WorkDir,
};
use sqlx::Executor as _;

use crate::reader::{insert, read, read_all};

async fn next_xid(connection: &mut Session) -> anyhow::Result<u64> {
    let xid =
        sqlx::query_scalar::<_, String>("select pg_current_xact_id()::text").fetch_one(connection).await?;
    Ok(xid.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_different_lengths_are_read_in_their_order_and_completely() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start(&work_dir, false)?;
    let database: TestDatabase = fixture::source_database_on(&server, "source").await?;
    let mut writer = database.session().await?;
    let mut reader = database.session().await?;
    // Nobody else is in this cluster: it counts to just below the next power of ten.
    let now = next_xid(&mut writer).await?;
    let goal = 10_u64.pow(now.ilog10() + 1) - 8;
    while next_xid(&mut writer).await? < goal {}

    read_all(&mut reader, 3).await?;
    // Late ones on both sides of it: ids are given out now, and commits come after the first round.
    let mut late = Vec::new();
    for _ in 0..12 {
        let mut connection = database.session().await?;
        connection.execute("begin").await?;
        late.push((insert(&mut connection, 2).await?, connection));
    }
    let mut expected = insert(&mut writer, 1).await?;
    assert_eq!(read_all(&mut reader, 3).await?, expected, "the others have not committed");
    expected.clear();
    for (ids, connection) in &mut late {
        connection.execute("commit").await?;
        expected.append(ids);
    }
    // Small pages, given up in the middle; then all of it in one page.
    let mut got = read(&mut reader, 3, 2).await?;
    got.extend(read_all(&mut reader, 100).await?);
    got = dedup(got);
    assert_eq!(got, expected, "late transactions, in the order of their ids");

    // The same for a tail: from the beginning of the log, in one round.
    let identifier = outbox::system_identifier(&mut reader).await?;
    reader.execute("delete from outbox.rounds").await?;
    outbox::reader::rounds::head(&mut reader, crate::reader::READER, identifier).await?;
    let ordered: Vec<uuid::Uuid> =
        sqlx::query_scalar("select audit_event_id from outbox.entries order by xid::text::bigint, seq")
            .fetch_all(&mut writer)
            .await?;
    assert_eq!(read_all(&mut reader, 3).await?, ordered, "a tail, in the order of its ids");
    let lengths: i64 = sqlx::query_scalar("select count(distinct length(xid::text)) from outbox.entries")
        .fetch_one(&mut writer)
        .await?;
    assert_eq!(lengths, 2, "of different lengths");
    Ok(())
}

/// Pages that were read before a crash are delivered again; the first time counts.
fn dedup(ids: Vec<uuid::Uuid>) -> Vec<uuid::Uuid> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}
