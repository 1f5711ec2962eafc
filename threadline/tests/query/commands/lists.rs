//! Lists of entries: the timeline, actions, and what belongs to a correlation id.

use std::process::Command;

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

#[test]
fn the_page_names_every_filter_and_every_command_that_reads() {
    let page = include_str!("../../../../docs/threadline-reading.md");
    for key in threadline::query::filter::keys() {
        assert!(page.contains(&format!("`{}:", key.key)), "the page lacks {}", key.key);
    }
    let help = Command::new(env!("CARGO_BIN_EXE_threadline")).arg("-h").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, list) = help.split_once("Read the timeline:\n").unwrap();
    let commands: Vec<&str> = list.lines().map_while(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 11, "{commands:?}");
    for command in commands {
        assert!(page.contains(&format!("`threadline {command} ")), "the page lacks {command}");
    }
}
