//! One row: its history, what it was, and who set it.

use super::{TIMELINE, assert_answers, timeline};

#[tokio::test]
async fn a_row_is_shown_through_time() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    assert_answers(
        &database,
        "rows.txt",
        &[
            &["history", "posts", "7"],
            &["history", "public.posts", r#"{"id":"8"}"#, "--limit", "1"],
            &["history", "lines", r#"{"tenant_id":"4","line_no":"1"}"#, "--json"],
            &["history", "posts", "7", "--tsv", "--limit", "1"],
            &["history", "posts", "99"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z", "--json"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z", "--tsv"],
            &["as-of", "posts", "8", "--at", "2026-05-15T12:10:00Z"],
            &["as-of", "posts", "7", "--at", "2026-05-15T13:00:00Z"],
            &["as-of", "posts", "8", "--at", "2026-05-16"],
            &["as-of", "posts", "8", "--at", "2026-05-16", "--json"],
            &["as-of", "posts", "8", "--at", "2026-05-16", "--tsv"],
            &["as-of", "posts", "7", "--at", "2026-05-15"],
            &["as-of", "posts", "7", "--at", "2026-05-15", "--json"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z", "--json"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z", "--tsv"],
            &["as-of", "posts", "--at", "2026-05-16"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z", "--json"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z", "--tsv"],
            &["blame", "posts", "8"],
            &["blame", "posts", "7", "--at", "2026-05-15"],
        ],
    )
}
