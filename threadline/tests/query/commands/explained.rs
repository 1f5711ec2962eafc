//! `--explain`: statements, parameters and plans instead of answers.

use serde_json::Value;

use super::{TIMELINE, threadline, timeline};

#[tokio::test]
async fn each_question_shows_what_it_asks_the_server() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    let transaction = "b0000000-0000-4000-8000-000000000001";
    for (arguments, table, parameter) in [
        (&["timeline", "table:posts"][..], "audit_changes", "\"posts\""),
        (&["actions", "action:post.published"], "audit_actions", "\"post.published\""),
        (&["correlation", "c-1"], "audit_transactions", "\"c-1\""),
        (&["actor", "user:u1"], "audit_transactions", "\"u1\""),
        (&["history", "posts", "7"], "audit_changes", "\"{\\\"id\\\":\\\"7\\\"}\""),
        (&["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z"], "audit_changes", "2026-05-15T12:10:00"),
        (&["as-of", "posts", "--at", "2026-05-15T12:10:00Z"], "audit_changes", "\"posts\""),
        (&["blame", "posts", "7"], "audit_changes", "\"infinity\""),
        (&["transaction", transaction], "audit_changes", transaction),
        (&["incident", transaction], "audit_changes", transaction),
    ] {
        let ended = threadline(&database, &[arguments, &["--explain"]].concat())?;
        assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""), "{arguments:?}");
        let holds = [
            &format!("\"public\".\"{table}\"")[..],
            "select",
            "  $1 = ",
            parameter,
            "actual rows",
            "Execution Time",
        ];
        for part in holds {
            assert!(ended.out.contains(part), "{arguments:?} lacks {part}: {}", ended.out);
        }
        let ended = threadline(&database, &[arguments, &["--explain", "--json"]].concat())?;
        for line in ended.out.lines() {
            let explained: Value = serde_json::from_str(line)?;
            let count = explained["parameters"].as_array().map_or(0, Vec::len);
            assert!(
                count == 0 || explained["statement"].as_str().unwrap().contains(&format!("${count}")),
                "{line}"
            );
            assert!(explained["plan"].as_array().is_some_and(|plan| plan.len() > 1), "{line}");
        }
        assert!(!ended.out.is_empty(), "{arguments:?}");
    }
    Ok(())
}
