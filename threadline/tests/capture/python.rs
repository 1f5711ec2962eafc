//! Audited transactions from Python, with psycopg.

use std::{io::Write as _, path::PathBuf, process::Command};

use anyhow::Context as _;
use sandbox::rights::as_superuser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::audited::audited;

/// Where psycopg is; none where it cannot be had, which continuous integration does not accept.
fn psycopg() -> anyhow::Result<Option<PathBuf>> {
    let fetched = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/psycopg")).output()?;
    let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
    match fetched.status.code() {
        Some(0) => Ok(Some(String::from_utf8(fetched.stdout)?.trim().into())),
        Some(3) if std::env::var("CI").as_deref() != Ok("true") => {
            // Not by a macro, whose output of a test that passes nobody sees.
            writeln!(std::io::stderr(), "\n###### NOT TESTED from Python: {} ######\n", said.trim())?;
            Ok(None)
        }
        _ => anyhow::bail!("{said}"),
    }
}

#[tokio::test]
async fn a_host_in_python_audits_its_transactions_with_psycopg() -> anyhow::Result<()> {
    let Some(psycopg) = psycopg()? else { return Ok(()) };
    let mut host = audited().await?;
    let role = format!("python_{}", host.database.name());
    let mut superuser = host.database.superuser().await?;
    let statement = format!(
        "create role {role}; grant insert on posts to {role};
         grant execute on function threadline_begin(jsonb), threadline_record_action(text, jsonb), threadline_link(jsonb) to {role}"
    );
    superuser.execute(AssertSqlSafe(statement)).await?;
    let ran = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/host.py"))
        .env("PYTHONPATH", psycopg)
        .env("DATABASE_URL", as_superuser(&host.database.url))
        .env("HOST_ROLE", &role)
        .output()?;
    anyhow::ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let errors: Value = serde_json::from_slice(&ran.stdout).context("what it printed")?;
    assert_eq!(
        errors,
        json!([["TL001", "missing_actor", true], ["TL002", "nested_audited_transaction", true]])
    );
    let rows: Vec<Value> = sqlx::query_scalar(
        "select jsonb_build_array(t.actor_ref ->> 'id', t.request_id, t.context, t.meta, a.name, a.reason, array_agg(c.table_pk ->> 'id'))
         from audit_transactions t left join audit_actions a on a.id = t.action_id join audit_changes c on c.transaction_id = t.id
         group by t.id, a.id order by t.occurred_at",
    )
    .fetch_all(&mut host.connection)
    .await?;
    let mut expected: Vec<Value> = (0..8)
        .map(|n| {
            json!([format!("u-{n}"), format!("r-{n}"), {"tenant": "é"}, {"post": n}, "post.created", "because", [n.to_string()]])
        })
        .collect();
    expected.push(json!(["python", null, null, null, null, null, ["102"]]));
    assert_eq!(rows, expected);
    Ok(())
}
