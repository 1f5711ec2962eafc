//! Every reason for which changes do not name their rows by the key of the table.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::coverage::{Expectations, Finding, FindingCode};

use super::{capture, expecting, findings::apply, host, report};

async fn drift(
    connection: &mut PgConnection,
    expectations: &Expectations,
) -> anyhow::Result<Option<Finding>> {
    let report = report(connection, expectations).await?;
    Ok(report.schemas.into_iter().flat_map(|one| one.findings).find(|one| one.code == FindingCode::PkDrift))
}

fn trigger(arguments: &str) -> String {
    format!(
        "create trigger threadline_audit_a after insert or update or delete on a
         for each row execute function threadline_capture_changes({arguments})"
    )
}

#[tokio::test]
async fn each_reason_has_its_term_and_its_remedy_ends_it() -> anyhow::Result<()> {
    let unique = "create table a (code text not null, v int not null, unique (code))";
    let override_of = |column: &str| expecting(&[("a", json!({"primary_key": [column]}))]);
    let none = Expectations::default;
    let cases = [
        ("create table a (id int, v int, primary key (id, v))", "'id'", none(), Some("key_mismatch")),
        ("create table a (code text primary key)", "", none(), Some("legacy_trigger_on_non_id_key")),
        ("create table a (id int not null)", "'id'", none(), Some("no_primary_key")),
        ("create table a (id int primary key)", "'ident'", none(), Some("recorded_column_missing")),
        (unique, "'v'", override_of("v"), Some("override_without_qualifying_index")),
        (unique, "'v'", override_of("code"), Some("key_mismatch")),
        (unique, "'code'", override_of("code"), None),
        (unique, "'code'", none(), None),
        (
            "create table a (code text primary key)",
            "'code'",
            override_of("code"),
            Some("override_on_table_with_primary_key"),
        ),
        ("create table a (id int, v int, primary key (id, v))", "'v', 'id'", none(), None),
        ("create table a (\"Größe\" int primary key)", "'Größe'", none(), None),
    ];
    for (table, arguments, expectations, reason) in cases {
        let (database, mut connection) = host("select 1").await?;
        connection.execute(AssertSqlSafe(format!("{table}; {}", trigger(arguments)))).await?;
        let finding = drift(&mut connection, &expectations).await?;
        let found = finding.as_ref().map(|one| one.details["reason"].clone());
        assert_eq!(found, reason.map(Value::from), "{table} {arguments}");
        // With the override the settings have to be changed first.
        if let Some(finding) = finding.filter(|_| expectations.policies.is_empty()) {
            apply(&database, &mut connection, &finding).await?;
            assert_eq!(
                drift(&mut connection, &expectations).await?,
                None,
                "{table} after {:?}",
                finding.remedy
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_override_that_lost_its_index_gets_it_back() -> anyhow::Result<()> {
    let (database, mut connection) =
        host("create table a (code text not null); create unique index a_code on a (code)").await?;
    capture(&mut connection, &[("a", json!({"primary_key": ["code"]}))]).await?;
    connection.execute("drop index a_code").await?;
    let finding = drift(&mut connection, &Expectations::default()).await?.unwrap();
    assert_eq!(finding.details["reason"], "override_without_qualifying_index");
    apply(&database, &mut connection, &finding).await?;
    assert_eq!(drift(&mut connection, &Expectations::default()).await?, None);
    Ok(())
}
