//! Lists of entries: the timeline, actions, and what belongs to a correlation id.

use super::{TIMELINE, assert_answers, timeline};

#[tokio::test]
async fn the_timeline_is_shown_to_people_and_programs() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    assert_answers(
        &database,
        "timeline.txt",
        &[
            &["timeline"],
            &["timeline", "table:posts", "op:update"],
            &["timeline", "text:two words", "--json"],
            &["timeline", "--by-transaction"],
            &["timeline", "--limit", "3"],
            &["timeline", "--count"],
            &["timeline", "--count", "kind:change", "--json"],
            &["timeline", "--count", "kind:event", "--tsv"],
            &["timeline", "--json", "--limit", "2"],
            &["timeline", "--tsv"],
            &["actions"],
            &["actions", "kind:event", "--json"],
            &["correlation", "c-1"],
        ],
    )
}
