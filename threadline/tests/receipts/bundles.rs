//! Whoever changes a bundle is found, with the line.

use std::time::Duration;

use sandbox::{wait, work_dir::WorkDir};
use serde_json::Value;
use sqlx::Executor as _;
use threadline::{
    StorageSchema, Timeline,
    receipts::{Span, Trust, bundle},
};

use super::{Host, PUBLIC, key, offline, terms};

/// What somebody does to the lines of a bundle.
type Change = fn(&mut Vec<String>);

/// Two receipts with two transactions, three changes and an action in four lines each, signed.
async fn lines() -> anyhow::Result<Vec<String>> {
    let mut host = Host::new().await?;
    let work_dir = WorkDir::create()?;
    let (_, key) = key(&work_dir)?;
    for n in 1..=2 {
        host.run(format!(
            "insert into t (v, note) values ({n}, 'secret'), ({n}, 'y');
             insert into audit_actions (name, actor_ref, status) values ('a.b', '{{}}', 'ok')"
        ))
        .await?;
        host.seal_with(&key).await?;
    }
    let bundle = String::from_utf8(host.bundle().await?)?;
    let lines: Vec<String> = bundle.lines().map(str::to_owned).collect();
    let kinds: Vec<String> = lines.iter().map(|line| kind(line)).collect();
    let of_receipt = ["receipt", "row", "row", "row", "row"];
    assert_eq!(kinds, [&["bundle"][..], &of_receipt, &of_receipt, &["end"]].concat());
    Ok(lines)
}

fn kind(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap();
    value.as_object().and_then(|line| line.keys().next()).cloned().unwrap()
}

fn found(lines: &[String]) -> anyhow::Result<Vec<String>> {
    let trust = Trust::nothing().keys(vec![PUBLIC.to_owned()]);
    let text: String = lines.iter().map(|line| line.clone() + "\n").collect();
    Ok(terms(&offline(text.as_bytes(), &trust)?))
}

#[tokio::test]
async fn a_change_of_a_bundle_is_found_in_its_line() -> anyhow::Result<()> {
    let lines = lines().await?;
    assert_eq!(found(&lines)?, Vec::<String>::new());
    let cut = "bundle_cut";
    let cases: [(&str, Change, &[&str]); 19] = [
        ("a value", |lines| lines[3] = lines[3].replace("secret", "public"), &["row_changed", cut]),
        (
            "an id",
            |lines| lines[2] = lines[2].replacen("\"id\":\"", "\"id\":\"0", 1),
            &["leaves_changed", "line_malformed", cut],
        ),
        (
            "a leaf",
            |lines| lines[3] = with_leaf(&lines[3], |digit| if digit == "0" { "1" } else { "0" }),
            &["leaves_changed", "row_changed", cut],
        ),
        (
            "no leaf",
            |lines| lines[3] = with_leaf(&lines[3], |_| ""),
            &["leaves_changed", "line_malformed", cut],
        ),
        ("a row that is gone", |lines| drop(lines.remove(4)), &["leaves_changed", cut]),
        ("a row twice", |lines| lines.insert(4, lines[4].clone()), &["leaves_changed", cut]),
        ("another order", |lines| lines.swap(3, 4), &["leaves_changed", cut]),
        ("rows of another receipt", |lines| lines.swap(3, 9), &["leaves_changed", "leaves_changed", cut]),
        (
            "a receipt",
            |lines| lines[6] = lines[6].replace("\"changes\":2", "\"changes\":3"),
            &["receipt_changed", "leaves_changed", cut],
        ),
        ("a receipt that is gone", |lines| drop(lines.remove(6)), &["leaves_changed", cut, cut]),
        ("the first receipt", |lines| drop(lines.drain(1..6)), &["receipt_missing", cut]),
        (
            "a row before the first receipt",
            |lines| lines.swap(1, 2),
            &["leaves_changed", "line_malformed", cut],
        ),
        ("the end", |lines| drop(lines.pop()), &[cut]),
        ("behind the end", |lines| lines.push(lines[3].clone()), &[cut]),
        ("the header", |lines| lines[0] = lines[0].replace("\"to\":2", "\"to\":3"), &[cut, cut]),
        ("another header", |lines| lines.insert(5, lines[0].clone()), &["line_malformed", cut]),
        (
            "a version",
            |lines| lines[0] = lines[0].replace("\"version\":1", "\"version\":2"),
            &["line_malformed"],
        ),
        (
            "an unknown member",
            |lines| lines[3] = lines[3].replacen("{\"kind\"", "{\"note\":1,\"kind\"", 1),
            &["leaves_changed", "line_malformed", cut],
        ),
        (
            "a column twice",
            |lines| lines[3] = lines[3].replacen("\"op\":", "\"op\":\"insert\",\"op\":", 1),
            &["leaves_changed", "line_malformed", cut],
        ),
    ];
    for (what, change, expected) in cases {
        let mut changed = lines.clone();
        change(&mut changed);
        assert_ne!(changed, lines, "{what}");
        assert_eq!(found(&changed)?, expected, "{what}");
    }
    let mut changed = lines.clone();
    changed[3] = changed[3].replace("secret", "public");
    let text: String = changed.iter().map(|line| line.clone() + "\n").collect();
    let words = offline(text.as_bytes(), &Trust::nothing())?.faults.listed[0].to_string();
    assert!(
        words.starts_with("line 4: receipt 1: change ") && words.contains(" of public.t {\"id\": \"1\"}: "),
        "{words}"
    );
    // Cut in the middle of a line, and of a character of the last one.
    for length in [1, text.len() / 2, text.len() - 1] {
        let whole: String = lines.iter().map(|line| line.clone() + "\n").collect();
        let found = terms(&offline(&whole.as_bytes()[..length], &Trust::nothing())?);
        assert!(found.contains(&cut.to_owned()), "{length}: {found:?}");
    }
    Ok(())
}

/// With another first digit of the leaf.
fn with_leaf(line: &str, digit: fn(&str) -> &str) -> String {
    let at = line.find("\"leaf\":\"").unwrap() + "\"leaf\":\"".len();
    format!("{}{}{}", &line[..at], digit(&line[at..=at]), &line[at + 1..])
}

/// What was erased, or is too large, stands as its hash: the row verifies, and it is said how many values are not there.
#[tokio::test]
async fn a_value_may_be_left_out_if_its_hash_is_there() -> anyhow::Result<()> {
    use sha2::{Digest as _, Sha256};
    let mut lines = lines().await?;
    let value: Value = serde_json::from_str(&lines[3])?;
    let after = value["row"]["columns"]["data_after"].as_str().unwrap();
    let hash = Sha256::digest(after).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let erased = format!("\"data_after\":{{\"sha256\":\"{hash}\"}}");
    lines[3] = lines[3].replace(&format!("\"data_after\":{}", serde_json::to_string(after)?), &erased);
    let text: String = lines.iter().map(|line| line.clone() + "\n").collect();
    let found = offline(text.as_bytes(), &Trust::nothing())?;
    // The end says that the file is not the one that was written.
    assert_eq!(
        (terms(&found), found.withheld, found.compared.changes),
        (vec!["bundle_cut".to_owned()], 1, 4)
    );
    // Of a column that is not erasable a hash is no value.
    lines[3] = lines[3].replacen("\"op\":\"insert\"", &format!("\"op\":{{\"sha256\":\"{hash}\"}}"), 1);
    let text: String = lines.iter().map(|line| line.clone() + "\n").collect();
    assert!(terms(&offline(text.as_bytes(), &Trust::nothing())?).contains(&"line_malformed".to_owned()));
    Ok(())
}

/// Which rows are in no receipt is found by their ids alone: what they hold is not sorted and not written to disk by the server.
#[tokio::test]
async fn a_bundle_writes_no_contents_into_temporary_files() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v, note) select n, (select string_agg(md5(n::text || i), '') from generate_series(1, 40) i) from generate_series(1, 20000) n")
        .await?;
    host.seal().await?;
    let database = host.database.name();
    let mut superuser = host.database.superuser().await?;
    superuser
        .execute(sqlx::AssertSqlSafe(format!("alter database \"{database}\" set work_mem = '256kB'")))
        .await?;
    let held: i64 = sqlx::query_scalar("select sum(octet_length(data_after::text)) from audit_changes")
        .fetch_one(&mut superuser)
        .await?;
    let timeline = Timeline::new(sqlx::PgPool::connect(&host.database.url).await?, StorageSchema::default());
    let before = written(&mut superuser).await?;
    let mut out = Vec::new();
    bundle(&timeline, Span::default(), &mut out, |_| {}).await?;
    // What a session has written is counted at its end at the latest.
    timeline.pool().close().await;
    wait::until_some("the session to have ended", Duration::from_secs(30), async || {
        let sessions: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle' and query like '%threadline_receipt%' and pid <> pg_backend_pid()",
        )
        .fetch_one(&mut superuser)
        .await?;
        Ok((sessions == 0).then_some(()))
    })
    .await?;
    let written = written(&mut superuser).await? - before;
    assert!(held > 20_000_000 && written < held / 4, "{written} of {held} bytes");
    Ok(())
}

/// Bytes of temporary files of this database so far.
async fn written(connection: &mut sqlx::PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(
        "select pg_stat_get_db_temp_bytes(oid) from pg_database where datname = current_database()",
    )
    .fetch_one(connection)
    .await?)
}
