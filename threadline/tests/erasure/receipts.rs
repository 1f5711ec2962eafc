//! Receipts verify before and behind an erasure, and one that was forged is found.

use std::process::Command;

use sandbox::work_dir::WorkDir;
use serde_json::json;
use uuid::Uuid;

use super::{Host, actor, host, offline, only, person, row, terms};

/// A timeline with everything that can be erased, sealed.
async fn sealed() -> anyhow::Result<Host> {
    let mut host = host().await?;
    host.as_actor(
        &json!({"type": "user", "id": "u-marker"}),
        &json!({"source": "web", "ip": "marker-ip"}),
        "insert into users values (1, 'jane-marker@x', 'Jäne', 3), (2, 'other@x', null, 1);
         insert into posts values (10, 1, 'marker body', '{\"n\": 1.50, \"e\": 1e400, \"t\": [\"marker\"]}');
         insert into notes values (1, 'marker note'), (2, 'note')",
    )
    .await?;
    host.run(
        "update users set email = 'jane-marker2@x' where id = 1; delete from posts where id = 10;
         insert into audit_actions (name, actor_ref, status, reason, comment)
         values ('user.banned', '{\"type\": \"user\", \"id\": \"u-marker\"}', 'ok', 'marker reason', null)",
    )
    .await?;
    host.seal().await?;
    Ok(host)
}

/// Somebody else's verifier, written after the page alone.
fn plainly(bundle: &[u8]) -> anyhow::Result<(bool, String)> {
    let work_dir = WorkDir::create()?;
    let path = work_dir.path().join("bundle.ndjson");
    std::fs::write(&path, bundle)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receipts/verify_bundle.py");
    let ran = Command::new("python3").arg(script).arg(&path).output()?;
    Ok((ran.status.success(), String::from_utf8([ran.stdout, ran.stderr].concat())?))
}

#[tokio::test]
async fn receipts_verify_before_and_behind_every_kind_of_erasure() -> anyhow::Result<()> {
    let mut host = sealed().await?;
    let before = host.both().await?;
    assert!(before.iter().all(|found| found.holds() && found.withheld == 0), "{before:?}");
    let rows = before[0].compared;
    let old = host.bundle().await?;
    let mut runs = Vec::new();
    for erasure in [
        only(row("users", 1), &["email"]),
        super::with_key(row("posts", 10)),
        actor("user", "u-marker", true),
        person("1"),
    ] {
        let erased = host.erase(&erasure).await?;
        assert!(erased.counts.total_values() > 0, "{erasure:?}");
        runs.push(erased.run.unwrap());
        let [online, in_bundle] = host.both().await?;
        assert!(online.holds(), "{erasure:?}: {:?}", online.faults);
        assert!(in_bundle.holds(), "{erasure:?}: {:?}", in_bundle.faults);
        assert_eq!((online.compared, in_bundle.compared), (rows, rows));
        assert!(online.erased.contains_key(runs.last().unwrap()), "{:?}", online.erased);
        // A document is one value, however many of its members went.
        assert_eq!(online.erased.values().sum::<u64>(), in_bundle.withheld);
        assert!(in_bundle.withheld > 0);
    }
    let bundle = host.bundle().await?;
    assert!(!String::from_utf8(bundle.clone())?.contains("marker"));
    let (holds, said) = plainly(&bundle)?;
    assert!(holds, "{said}");
    // One that was handed over before holds what was erased, and verifies as before.
    assert!(offline(&old)?.holds() && plainly(&old)?.0 && String::from_utf8(old)?.contains("marker"));
    // What stands for the erasures is sealed by the next receipt, and so is what comes later of the rows.
    host.run("update users set email = 'new@x' where id = 1").await?;
    host.seal().await?;
    let [online, in_bundle] = host.both().await?;
    assert!(online.holds() && in_bundle.holds(), "{:?}", online.faults);
    assert_eq!(online.compared.actions, rows.actions + 4);
    // Of a row that was sealed when something of it was erased already, the hash that was kept counts.
    host.erase(&row("users", 1)).await?;
    assert!(host.verify().await?.holds());
    Ok(())
}

#[tokio::test]
async fn rows_that_are_erased_before_they_are_sealed_verify_too() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'jane-marker@x', 'Jane', 3)").await?;
    host.erase(&only(row("users", 1), &["email"])).await?;
    host.seal().await?;
    assert!(host.verify().await?.holds());
    host.erase(&row("users", 1)).await?;
    for found in host.both().await? {
        assert!(found.holds(), "{:?}", found.faults);
    }
    Ok(())
}

#[tokio::test]
async fn an_erasure_that_was_forged_is_found() -> anyhow::Result<()> {
    let host = sealed().await?;
    let run = host.erase(&only(row("users", 1), &["email"])).await?.run.unwrap();
    let is_insert = "op = 'insert' and table_pk = '{\"id\": \"2\"}' and table_name = 'users'";
    let hash = "encode(sha256(convert_to(data_after::text, 'UTF8')), 'hex')";
    let mark = |run: Uuid, keys: &str| {
        format!(
            "jsonb_build_object('run', '{run}', 'columns', jsonb_build_object('data_after', jsonb_build_object('sha256', {hash}{keys})))"
        )
    };
    let keys = ", 'keys', jsonb_build_array('email')";
    let unknown = Uuid::from_u128(7);
    for (set, where_, online, in_bundle) in [
        // A run that there is not.
        (
            format!(
                "erased = {}, data_after = data_after || '{{\"email\": \"[ERASED]\"}}'",
                mark(unknown, keys)
            ),
            is_insert,
            "erased_unexplained",
            Some("row_changed"),
        ),
        // A run that there is, and another value than the one that erasing leaves.
        (
            format!("erased = {}, data_after = data_after || '{{\"email\": \"forged@x\"}}'", mark(run, keys)),
            is_insert,
            "erased_unexplained",
            Some("row_changed"),
        ),
        (
            format!("erased = {}, data_after = '{{}}'", mark(run, "")),
            is_insert,
            "erased_unexplained",
            Some("row_changed"),
        ),
        // A run that there is, and nothing that it erased.
        (
            format!(
                "erased = {}, data_after = data_after || '{{\"email\": \"forged@x\"}}'",
                mark(run, ", 'keys', '[]'::jsonb")
            ),
            is_insert,
            "erased_unexplained",
            Some("row_changed"),
        ),
        // Nothing was changed: it says so all the same.
        (format!("erased = {}", mark(unknown, keys)), is_insert, "erased_unexplained", None),
        ("erased = '7'".to_owned(), is_insert, "erased_unexplained", None),
        // A column that is no document, and one that is always in clear.
        (
            format!(
                "erased = jsonb_build_object('run', '{run}', 'columns', jsonb_build_object('op', jsonb_build_object('sha256', {hash}))), op = 'delete'"
            ),
            is_insert,
            "erased_unexplained",
            Some("row_changed"),
        ),
        // What was erased, put back, or replaced, with the hash of something else.
        (
            "data_after = data_after || '{\"email\": \"again@x\"}'".to_owned(),
            "op = 'insert' and table_pk = '{\"id\": \"1\"}' and table_name = 'users'",
            "erased_unexplained",
            Some("row_changed"),
        ),
        (
            "erased = jsonb_set(erased, '{columns,data_after,sha256}', to_jsonb(repeat('0', 64)))".to_owned(),
            "op = 'insert' and table_pk = '{\"id\": \"1\"}' and table_name = 'users'",
            "row_changed",
            Some("row_changed"),
        ),
        (
            "erased = null".to_owned(),
            "op = 'insert' and table_pk = '{\"id\": \"1\"}' and table_name = 'users'",
            "row_changed",
            Some("row_changed"),
        ),
        // A column that is not erased is covered as before.
        (
            "op = 'update'".to_owned(),
            "op = 'insert' and table_pk = '{\"id\": \"1\"}' and table_name = 'users'",
            "row_changed",
            Some("row_changed"),
        ),
    ] {
        let mut other = Host {
            database: host.database.clone(),
            connection: host.database.connect().await?,
            timeline: host.timeline.clone(),
        };
        other.run("drop table if exists kept; create table kept as select * from audit_changes").await?;
        other.run(format!("update audit_changes set {set} where {where_}")).await?;
        let [found, read] = other.both().await?;
        assert_eq!(terms(&found), [online], "{set}");
        assert_eq!(terms(&read), in_bundle.into_iter().collect::<Vec<_>>(), "{set}");
        other
            .run("update audit_changes c set erased = k.erased, data_after = k.data_after, op = k.op from kept k where k.id = c.id and c is distinct from k")
            .await?;
        assert!(other.verify().await?.holds(), "{set}");
    }
    Ok(())
}
