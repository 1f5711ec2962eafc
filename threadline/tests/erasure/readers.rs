//! What readers show of what is gone.

use serde_json::Value;
use threadline::query::{Filter, Key, PageRequest, Undo, row::At};
use uuid::Uuid;

use super::{commands::command, host, only, row, with_key};

const FIRST: &str = "insert into users values (1, 'jane-marker@x', 'Jane', 3), (2, 'other@x', 'Other', 5)";
const SECOND: &str = "
    begin; update users set email = 'jane-marker2@x' where id = 1; update users set email = 'other2@x' where id = 2; commit";

#[tokio::test]
async fn a_change_says_which_columns_were_erased_and_others_say_nothing() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(FIRST).await?;
    host.run(SECOND).await?;
    host.erase(&only(row("users", 1), &["email", "name"])).await?;
    let page = host.reader().page(&Filter::default(), &PageRequest::default()).await?;
    let entries: Vec<Value> = page.entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect();
    let (mut erased, mut whole) = (0, 0);
    for entry in entries.iter().filter(|entry| entry["kind"] == "change") {
        if entry["table_pk"]["id"] == "1" {
            assert_eq!(entry["erased"], serde_json::json!(["email", "name"]), "{entry}");
            assert_eq!(entry["data_after"]["email"], "[ERASED]");
            erased += 1;
        } else {
            assert!(entry.get("erased").is_none(), "{entry}");
            whole += 1;
        }
    }
    assert_eq!((erased, whole), (2, 2));
    let run = |arguments: &[&str]| -> anyhow::Result<(String, String)> {
        let ran = command(&host.database, "", arguments)?.output()?;
        Ok((String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?))
    };
    let (history, _) = run(&["history", "users", "1"])?;
    assert!(history.contains("email: [erased] → [erased]"), "{history}");
    for asked in [&["as-of", "--at", "2100-01-01T00:00:00Z", "users", "1"][..], &["blame", "users", "1"]] {
        let (shown, said) = run(asked)?;
        assert!(shown.contains("[erased]") && !shown.contains("ERASED"), "{shown} {said}");
        assert!(said.contains("values were erased: email, name"), "{said}");
    }
    let (shown, said) = run(&["as-of", "--at", "2100-01-01T00:00:00Z", "users", "2"])?;
    assert!(!shown.contains("erased") && !said.contains("erased"), "{shown} {said}");
    let json: Value =
        serde_json::from_str(&run(&["as-of", "--at", "2100-01-01T00:00:00Z", "users", "1", "--json"])?.0)?;
    assert!(json.to_string().contains(r#""erased":["email","name"]"#), "{json}");
    Ok(())
}

#[tokio::test]
async fn what_was_erased_is_not_undone() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(FIRST).await?;
    host.run(SECOND).await?;
    host.erase(&row("users", 1)).await?;
    let transaction: Uuid =
        sqlx::query_scalar("select transaction_id from audit_changes where op = 'update' limit 1")
            .fetch_one(&mut host.connection)
            .await?;
    let plan = host.reader().undo_plan(Undo::Transaction(transaction)).await?;
    let refused: Vec<(&str, &str)> =
        plan.refused.iter().map(|refused| (refused.term, refused.key.get())).collect();
    assert_eq!(refused, [("erased", r#"{"id": "1"}"#)]);
    assert_eq!(plan.statements.len(), 1, "{plan:?}");
    assert_eq!(plan.statements[0].key.get(), r#"{"id": "2"}"#);
    assert!(!plan.to_sql().contains("ERASED"));
    Ok(())
}

#[tokio::test]
async fn a_change_that_says_something_odd_of_its_erasure_is_read() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3)").await?;
    for odd in ["7", "[]", "{}", r#"{"columns": 7}"#, r#"{"columns": {"data_after": {"keys": {}}}}"#] {
        host.run(format!("update audit_changes set erased = '{odd}'")).await?;
        let page = host.reader().page(&"kind:change".parse()?, &PageRequest::default()).await?;
        assert_eq!(page.entries.len(), 1, "{odd}");
        let reader = host.reader();
        let found = reader.row(&"users".parse()?, &Key::Value("1".to_owned())).await?;
        reader.as_of(&found, &At::latest()).await?;
        // Erasing goes over it.
        host.erase(&row("users", 1)).await?;
        host.run("update audit_changes set data_after = '{\"id\": 1, \"email\": \"b@x\"}'").await?;
    }
    Ok(())
}

#[tokio::test]
async fn exports_carry_it_and_the_librarys_profiles_show_the_placeholder_alone() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(FIRST).await?;
    host.run(SECOND).await?;
    host.erase(&only(row("users", 1), &["email"])).await?;
    let out = sandbox::work_dir::WorkDir::create()?;
    for (profile, format, with_member) in [
        ("full", "ndjson", true),
        ("full", "csv", true),
        ("compat", "ndjson", false),
        ("compat", "csv", false),
        ("exact", "ndjson", false),
    ] {
        let file = out.path().join(format!("{profile}.{format}"));
        let arguments = [
            "export",
            "run",
            "--profile",
            profile,
            "--format",
            format,
            "--unrecorded",
            "-o",
            file.to_str().unwrap(),
        ];
        let ran = command(&host.database, "", &arguments)?.output()?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let text = std::fs::read_to_string(&file)?;
        assert!(text.contains("[ERASED]") && !text.contains("jane-marker"), "{text}");
        assert_eq!(text.contains("erased"), with_member, "{profile} {format}: {text}");
        if (profile, format) == ("full", "csv") {
            assert!(text.lines().next().unwrap().ends_with(",action_inserted_at,erased"), "{text}");
            assert!(text.contains(r#","[""email""]""#), "{text}");
        }
    }
    Ok(())
}

/// All of its keys are one then.
#[tokio::test]
async fn a_row_whose_keys_were_erased_was_there_and_is_gone_as_before() -> anyhow::Result<()> {
    for (last, term) in [("", "present"), ("delete from users where id = 773", "deleted")] {
        let mut host = host().await?;
        host.run("insert into users values (771, 'jane-marker@x', 'Jane', 3); update users set id = 772 where id = 771").await?;
        let (between,): (time::OffsetDateTime,) =
            sqlx::query_as("select clock_timestamp()").fetch_one(&mut host.connection).await?;
        host.run("update users set id = 773, name = 'Jane-marker' where id = 772").await?;
        host.run(last).await?;
        let run = host.erase(&with_key(row("users", 773))).await?.run.unwrap();
        let reader = host.reader();
        let found = reader.row(&"users".parse()?, &Key::Value(format!("erased-{run}"))).await?;
        for (at, expected) in [(At::latest(), term), (At::from(between), "present")] {
            let followed = reader.as_of_followed(&found, &at).await?;
            assert_eq!((followed.as_of.term(), &followed.row), (expected, &found), "{at}: {followed:?}");
        }
        let blame = reader.blame(&found, &At::from(between)).await?;
        assert!(blame.is_complete, "{blame:?}");
    }
    Ok(())
}
