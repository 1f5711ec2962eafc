//! Thinning rounds and pruning entries.

use std::time::Duration;

use common::{
    outbox::{
        history::{self, LogHistory, PublishedMessage},
        maintenance::prune,
        reader::rounds::{self, Append, PublishedPosition, StreamPosition},
        system_identifier,
    },
    session::Session,
};
use sandbox::fixture::source_database;
use sqlx::Executor as _;
use time::macros::datetime;
use uuid::Uuid;

use crate::reader::{READER, insert, read_all};

async fn entries(connection: &mut Session) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from outbox.entries").fetch_one(connection).await?)
}

#[tokio::test]
async fn only_what_has_been_read_and_is_old_enough_is_pruned() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    insert(&mut connection, 10).await?;
    read_all(&mut connection, 3).await?;
    insert(&mut connection, 5).await?;

    assert_eq!(prune::horizon(&mut connection, None, Duration::from_secs(3_600)).await?, None);
    let horizon =
        prune::horizon(&mut connection, None, Duration::ZERO).await?.expect("ten rows have been read");
    while prune::batch(&mut connection, &horizon, None).await?.entries > 0 {}
    assert_eq!(entries(&mut connection).await?, 5);
    assert_eq!(read_all(&mut connection, 3).await?.len(), 5);
    let noted: i64 =
        sqlx::query_scalar("select count(*) from outbox.horizon").fetch_one(&mut connection).await?;
    assert_eq!(noted, 1, "what is gone is noted");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_lags_holds_the_log() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let identifier = system_identifier(&mut connection).await?;
    rounds::head(&mut connection, "slow", identifier).await?;
    insert(&mut connection, 10).await?;
    read_all(&mut connection, 3).await?;
    let horizon =
        prune::horizon(&mut connection, None, Duration::ZERO).await?.expect("both readers have a round");
    assert_eq!(prune::batch(&mut connection, &horizon, None).await?.entries, 0);
    assert_eq!(entries(&mut connection).await?, 10);
    Ok(())
}

#[tokio::test]
async fn what_the_broker_holds_and_nobody_has_settled_is_not_pruned() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let identifier = system_identifier(&mut connection).await?;
    let at = |sequence| StreamPosition { created: datetime!(2026-01-01 00:00 UTC), sequence };
    let head = rounds::head(&mut connection, READER, identifier).await?;
    insert(&mut connection, 10).await?;
    let Append::Written(first) = rounds::open(&mut connection, &head, None, false).await? else {
        panic!("unread")
    };
    insert(&mut connection, 1).await?;
    let mark = PublishedPosition { position: at(10), event: None };
    let Append::Written(_) = rounds::open(&mut connection, &first, Some(mark), false).await? else {
        panic!("unread")
    };

    for (floor, left) in [(Some(at(9)), 11), (None, 11), (Some(at(10)), 1)] {
        if let Some(horizon) = prune::horizon(&mut connection, floor, Duration::ZERO).await? {
            while prune::batch(&mut connection, &horizon, None).await?.entries > 0 {}
        }
        assert_eq!(entries(&mut connection).await?, left, "floor {floor:?}");
    }
    Ok(())
}

#[tokio::test]
async fn rounds_behind_the_head_are_thinned_to_one_a_minute() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            "insert into outbox.rounds (reader, n, s, t, generation, system_identifier, at)
             select 'test', n, '3:3:', '3:3:', 0, 1, date_trunc('minute', now()) - interval '10 minutes'
                    + n * interval '1 second'
             from generate_series(0, 299) n",
        )
        .await?;
    let thinned = rounds::thin(&mut connection, "test", Duration::from_secs(86_400), 10_000).await?;
    let left: Vec<i64> =
        sqlx::query_scalar("select n from outbox.rounds order by n").fetch_all(&mut connection).await?;
    assert_eq!(left, [0, 60, 120, 180, 240, 299], "the first of each minute, and the head");
    assert_eq!(thinned, 294);
    assert_eq!(rounds::thin(&mut connection, "test", Duration::from_secs(86_400), 10_000).await?, 0);
    rounds::thin(&mut connection, "test", Duration::from_secs(60), 10_000).await?;
    let left: i64 =
        sqlx::query_scalar("select count(*) from outbox.rounds").fetch_one(&mut connection).await?;
    assert_eq!(left, 1, "older than asked for: only the head stays");
    Ok(())
}

#[tokio::test]
async fn a_transaction_held_open_keeps_its_own_entries_and_no_others() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut holder = database.session().await?;
    holder.execute("begin").await?;
    insert(&mut holder, 2).await?;
    let mut connection = database.session().await?;
    insert(&mut connection, 5).await?;
    assert_eq!(read_all(&mut connection, 10).await?.len(), 5);
    holder.execute("commit").await?;
    let horizon =
        prune::horizon(&mut connection, None, Duration::ZERO).await?.expect("five rows have been read");
    while prune::batch(&mut connection, &horizon, None).await?.entries > 0 {}
    assert_eq!(entries(&mut connection).await?, 2, "committed since, and unread");
    assert_eq!(read_all(&mut connection, 10).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn what_was_pruned_is_history_in_a_restored_stream_that_counts_as_a_new_one() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            "insert into outbox.horizon (pruned_to, pruned_at, stream_created, stream_seq)
             values ('100', '2026-06-01Z', '2026-01-01Z', 50)",
        )
        .await?;
    let restored = datetime!(2026-07-01 00:00 UTC);
    let table = [
        (datetime!(2026-05-01 00:00 UTC), LogHistory::Settled, "from before the last prune"),
        (datetime!(2026-06-15 00:00 UTC), LogHistory::Unknown, "nothing later was pruned"),
        (datetime!(2026-07-02 00:00 UTC), LogHistory::Unknown, "the restored stream was given it"),
    ];
    for (at, expected, why) in table {
        let event = Uuid::new_v4();
        let message = PublishedMessage { event, sequence: 7, at: Some(at) };
        let known = history::of_messages(&mut connection, &"timeline".parse()?, restored, &[message]).await?;
        assert_eq!(known.get(&event), Some(&expected), "{why}");
    }
    Ok(())
}
