//! Transactions: of an actor, one by itself, and how it would be undone.

use super::{TIMELINE, assert_answers, timeline};

#[tokio::test]
async fn transactions_are_shown() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    let (first, second) = ("b0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002");
    assert_answers(
        &database,
        "transactions.txt",
        &[
            &["actor", "user:u1"],
            &["actor", "job:reprice", "--json"],
            &["actor", "job:reprice", "--tsv"],
            &["actor", "user:u1", "to:2026-05-14"],
            &["actor", "user:u1", "table:posts"],
            &["actor", "robot:r1"],
            &["transaction", first],
            &["transaction", first, "--json", "--limit", "1"],
            &["transaction", first, "--tsv", "--limit", "1"],
            &["transaction", second, "--limit", "1"],
            &["transaction", "b0000000-0000-4000-8000-000000000009"],
            &["incident", second],
            &["incident", first],
            &["incident", second, "--tsv"],
            &["incident", second, "--json", "--limit", "1"],
            &["undo-plan", "b0000000-0000-4000-8000-000000000003"],
            &["undo-plan", "c0000000-0000-4000-8000-000000000005", "--json"],
            &["undo-plan", "b0000000-0000-4000-8000-000000000009"],
        ],
    )
}
