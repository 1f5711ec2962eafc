//! How commands end: exit statuses and terms, pipes, signals, and databases without a timeline.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::{
    fixture::{TestDatabase, empty_database},
    wait,
};
use serde_json::Value;
use sqlx::Executor as _;

use super::{TIMELINE, assert_answers, command, threadline, timeline};

#[tokio::test]
async fn what_cannot_be_used_ends_with_status_2_and_a_term() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    for (arguments, term) in [
        (&["timeline", "colour:red"][..], "unknown_filter: "),
        (&["timeline", "posts"], "filter_without_value: "),
        (&["timeline", "op:update", "op:insert"], "filter_twice: "),
        (&["timeline", "last:soon"], "filter_value: "),
        (&["timeline", "key:7"], "filter_combination: "),
        (&["timeline", "from:2026-05-16", "to:2026-05-15"], "filter_combination: "),
        (&["actions", "table:posts"], "filter_combination: "),
        (&["timeline", "--cursor", "nonsense"], "invalid_cursor: "),
        (
            &[
                "timeline",
                "actor:user:u1",
                "--cursor",
                "1~c0000000000040008000000000000001",
                "--by-transaction",
            ],
            "invalid_cursor: ",
        ),
        (&["timeline", "--newer"], "--cursor"),
        (&["timeline", "--limit", "0"], "--limit"),
        (&["timeline", "--json", "--tsv"], "cannot be used with"),
        (&["timeline", "--count", "--limit", "5"], "cannot be used with"),
        (&["tail", "--position", "1:1:~1"], "--follow"),
        (&["tail", "-f", "--position", "nonsense"], "invalid_position: "),
        (&["history", "posts", r#"{"no":"7"}"#], "key_mismatch: "),
        (&["history", "lines", "7"], "key_mismatch: "),
        (&["history", "a.b.c", "7"], "filter_value: "),
        (&["history", "posts", ""], "filter_value: "),
        (&["as-of", "posts", "7", "--at", "yesterday"], "filter_value: "),
        (&["as-of", "posts", "7"], "--at"),
        (&["as-of", "posts", "--children", "--at", "2026-05-15"], "KEY"),
        (&["as-of", "posts", "--after", "7", "--at", "2026-05-15"], "filter_value: "),
        (&["blame", "posts"], "KEY"),
        (&["actor", "user"], "filter_value: "),
        (&["correlation", " "], "filter_value: "),
        (&["transaction", "7"], "invalid value '7'"),
        (&["undo-plan", "7"], "invalid value '7'"),
    ] {
        let ended = threadline(&database, arguments)?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(term), "{arguments:?}: {}", ended.error);
    }
    Ok(())
}

#[tokio::test]
async fn a_question_without_an_answer_ends_with_status_1_and_a_term() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    let nowhere = "b0000000-0000-4000-8000-00000000000f";
    for (arguments, term) in [
        (&["history", "nowhere", "7"][..], "table_unknown: "),
        (&["as-of", "nowhere", "--at", "2026-05-15"], "table_unknown: "),
        (&["as-of", "nowhere", "--at", "2h"], "table_unknown: "),
        (&["as-of", "posts", "8", "--at", "2026-05-16"], "deleted_record: "),
        (&["as-of", "posts", "8", "--at", "2026-05-14"], "before_audit_horizon: "),
        (&["blame", "posts", "8", "--at", "2026-05-14"], "before_audit_horizon: "),
        (&["transaction", nowhere], "not_found: "),
        (&["incident", nowhere], "not_found: "),
        (&["undo-plan", nowhere], "not_found: "),
    ] {
        let ended = threadline(&database, arguments)?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {}", ended.error);
        assert!(ended.error.starts_with(&format!("error: {term}")), "{arguments:?}: {}", ended.error);
    }
    // As a line of JSON, where the log is.
    let ran = command(&database, &["transaction", nowhere]).env("AUDIT__LOG__FORMAT", "json").output()?;
    let line: Value = serde_json::from_slice(&ran.stderr)?;
    assert_eq!(line["exit_status"], 1);
    Ok(())
}

#[tokio::test]
async fn a_database_without_a_timeline_is_told_apart_from_an_old_one_and_from_none() -> anyhow::Result<()> {
    let empty = empty_database().await?;
    let ended = threadline(&empty, &["timeline"])?;
    assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""));
    assert!(
        ended.error.starts_with("error: not_installed: ") && ended.error.contains("`threadline install`"),
        "{}",
        ended.error
    );
    let (old, mut connection) = timeline("alter table audit_changes drop column position cascade").await?;
    let ended = threadline(&old, &["history", "posts", "7"])?;
    assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""));
    assert!(
        ended.error.starts_with("error: timeline_incomplete: ")
            && ended.error.contains("audit_changes.position")
            && ended.error.contains("`threadline install`"),
        "{}",
        ended.error
    );
    connection.execute("drop table audit_changes, audit_actions, audit_transactions cascade").await?;
    assert!(threadline(&old, &["timeline"])?.error.starts_with("error: not_installed: "));
    let away = TestDatabase { url: "postgres://nobody@127.0.0.1:1/nothing".to_owned() };
    let ended = threadline(&away, &["timeline"])?;
    assert_eq!(ended.status, Some(1));
    assert!(ended.error.contains("cannot connect to the timeline database"), "{}", ended.error);
    Ok(())
}

#[tokio::test]
async fn an_empty_list_says_what_there_is_instead() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(TIMELINE).await?;
    assert_answers(
        &database,
        "empty.txt",
        &[
            &["timeline", "table:posts", "from:2026-05-16"],
            &["timeline", "table:nowhere"],
            &["timeline", "table:psots"],
            &["timeline", "table:nowhere", "--json"],
            &["timeline", "table:nowhere", "--count"],
            &["actions", "action:nothing", "--tsv"],
            &["correlation", "c-9"],
            &["tail", "table:nowhere"],
        ],
    )?;
    connection
        .execute("delete from audit_changes; delete from audit_transactions; delete from audit_actions")
        .await?;
    let ended = threadline(&database, &["timeline"])?;
    assert_eq!((ended.status, ended.out.as_str()), (Some(0), ""));
    assert!(ended.error.starts_with("nothing found; the timeline is empty"), "{}", ended.error);
    Ok(())
}

/// Many entries, of which few are what is asked for.
const MANY: &str = "insert into audit_transactions (id, txid, occurred_at) values ('b0000000-0000-4000-8000-000000000001', 1, '2026-05-15 00:00:00Z');
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at, position)
    select 'b0000000-0000-4000-8000-000000000001', 'public', 'posts', jsonb_build_object('id', n::text), 'insert',
           jsonb_build_object('id', n, 'note', case when n % 4000 = 1 then 'rare' end), timestamptz '2026-05-15 00:00:00Z' + n * interval '1 second', n
    from generate_series(1, 12001) n";

#[tokio::test]
async fn a_search_goes_on_until_the_end_and_a_page_is_followed_by_the_next() -> anyhow::Result<()> {
    let (database, _connection) = timeline(MANY).await?;
    let ids = |out: &str| -> anyhow::Result<Vec<String>> {
        let id = |line: &str| -> anyhow::Result<String> {
            let entry: Value = serde_json::from_str(line)?;
            Ok(entry["table_pk"]["id"].as_str().unwrap_or_default().to_owned())
        };
        out.lines().map(id).collect()
    };
    let ended = threadline(&database, &["timeline", "text:rare", "--json"])?;
    assert_eq!(ids(&ended.out)?, ["12001", "8001", "4001", "1"], "{}", ended.error);
    let all = threadline(&database, &["timeline", "--json", "--limit", "100000"])?;
    assert_eq!(ids(&all.out)?.len(), 12_001);
    // As people are told to go on, into one direction and back.
    let first = threadline(&database, &["timeline", "table:posts", "--limit", "1500"])?;
    let next = first.error.trim().strip_prefix("older: threadline ").unwrap_or_default().to_owned();
    let words: Vec<&str> = next.split(' ').chain(["--json"]).collect();
    let older = threadline(&database, &words)?;
    let older = ids(&older.out)?;
    assert_eq!((older.len(), older[0].as_str(), older[1_499].as_str()), (1_500, "10501", "9002"));
    let newer = threadline(&database, &[&words[..], &["--newer"]].concat())?;
    let newer = ids(&newer.out)?;
    assert_eq!((newer.len(), newer[0].as_str(), newer[1_498].as_str()), (1_499, "12001", "10503"));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() -> anyhow::Result<()> {
    let (database, _connection) = timeline(MANY).await?;
    for form in ["--json", "--tsv"] {
        let mut running = command(&database, &["timeline", "--limit", "100000", form])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(running.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line)?;
        drop(out);
        let ended = running.wait_with_output()?;
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{form}");
        assert!(!line.is_empty() && ended.status.code() == Some(1), "{form}: {:?}", ended.status);
    }
    Ok(())
}

/// A tail that is running, and is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_tail_shows_what_comes_and_ends_well_with_an_interrupt() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(TIMELINE).await?;
    let arguments = ["tail", "-f", "-n", "2", "--json"];
    let mut running =
        Running(command(&database, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut id = || -> anyhow::Result<String> {
        let entry: Value = serde_json::from_str(&lines.next().unwrap()?)?;
        Ok(entry["id"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(id()?, "e0000000-0000-4000-8000-000000000003", "the older one first");
    assert_eq!(id()?, "c0000000-0000-4000-8000-000000000005");
    connection.execute("create table host (id int primary key)").await?;
    super::super::capture(&mut connection, &[("host", serde_json::json!({}))]).await?;
    connection.execute("insert into host values (1)").await?;
    let change = id()?;
    let stored: String = sqlx::query_scalar("select id::text from audit_changes where table_name = 'host'")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(change, stored);
    kill(Pid::from_raw(i32::try_from(running.0.id())?), Signal::SIGINT)?;
    let ended = async || Ok(running.0.try_wait()?);
    let status = wait::until_some("the tail to end", Duration::from_secs(20), ended).await?;
    assert_eq!(status.code(), Some(0));
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said)?;
    let next = said.trim().strip_prefix("to go on: threadline ").unwrap_or_default().to_owned();
    assert!(next.starts_with("tail -f -n 2 --json --position "), "{said}");
    // Nothing is missed between both.
    connection.execute("insert into host values (2)").await?;
    let words: Vec<&str> = next.split(' ').collect();
    let mut running = Running(command(&database, &words).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line)?;
    let entry: Value = serde_json::from_str(&line)?;
    assert_eq!(entry["table_pk"]["id"], "2");
    Ok(())
}

#[tokio::test]
async fn a_question_that_is_interrupted_says_so_and_how_to_go_on() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(TIMELINE).await?;
    // A transaction sees the sessions of its first look for as long as it lasts.
    let mut watcher = database.connect().await?;
    let cursor = "1778850000000000~a0000000000040008000000000000002";
    connection.execute("begin; lock table audit_changes in access exclusive mode").await?;
    for (arguments, goes_on) in [
        (&["timeline", "--cursor", cursor][..], true),
        (&["transaction", "b0000000-0000-4000-8000-000000000001"], false),
    ] {
        let running = command(&database, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let id = Pid::from_raw(i32::try_from(running.id())?);
        let waiting = async || {
            let waits = "select pid from pg_stat_activity where application_name = 'threadline' and wait_event_type = 'Lock'
                         and datname = current_database()";
            Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut watcher).await?)
        };
        let server = wait::until_some("the question to wait", Duration::from_secs(20), waiting).await?;
        kill(id, Signal::SIGINT)?;
        let ended = running.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("error: interrupted before the answer was there"), "{said}");
        assert_eq!(
            said.contains(&format!("older: threadline timeline --cursor {cursor}")),
            goes_on,
            "{said}"
        );
        sqlx::query("select pg_terminate_backend($1)").bind(server).execute(&mut watcher).await?;
        let gone = async || {
            let left = "select pid from pg_stat_activity where pid = $1";
            let left: Option<i32> =
                sqlx::query_scalar(left).bind(server).fetch_optional(&mut watcher).await?;
            Ok(left.is_none().then_some(()))
        };
        wait::until_some("the session to end", Duration::from_secs(20), gone).await?;
    }
    Ok(())
}
