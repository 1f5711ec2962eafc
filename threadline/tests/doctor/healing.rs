//! Each check finds what it is for, and what it says ends it.

use std::collections::BTreeSet;

use sandbox::fixture::{shared, timeline_database_as};
use serde_json::Value;
use threadline::{Layout, doctor::checks};
use uuid::Uuid;

use super::{
    Host,
    cases::{CASES, Case},
};

async fn provoke(host: &mut Host, case: &Case) -> anyhow::Result<()> {
    host.run(&case.provoked.replace("{database}", &host.database.name())).await?;
    for line in case.commands {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = host.threadline(&words)?;
        anyhow::ensure!(ended.status == Some(0), "{line}: {}", ended.error);
    }
    if let Some(settings) = case.settings {
        settings.clone_into(&mut host.settings);
    }
    Ok(())
}

#[tokio::test]
async fn each_check_finds_what_it_is_for_and_every_remedy_heals() -> anyhow::Result<()> {
    for case in CASES {
        let Case { id, state, provoked, also, healed, .. } = case;
        let mut host = Host::healthy().await?;
        provoke(&mut host, case).await?;
        let report = host.doctor()?;
        let item = report.item(id);
        assert_eq!(item["state"], *state, "{id} after {provoked}: {item}");
        let remedy: Vec<Value> = item["remedy"].as_array().cloned().unwrap_or_default();
        assert!(!remedy.is_empty(), "{id} says nothing to do: {item}");
        let wrong: BTreeSet<String> = report.wrong().into_iter().map(|(id, _)| id).collect();
        let expected: BTreeSet<String> = also.iter().chain([id]).map(|id| (*id).to_owned()).collect();
        assert_eq!(wrong, expected, "after {provoked}");
        for step in &remedy {
            host.follow(step).await?;
        }
        if !healed.is_empty() {
            let only_says = |step: &Value| {
                step["kind"] == "advice"
                    || step["text"].as_str().is_some_and(|text| text.starts_with("select "))
            };
            assert!(remedy.iter().any(only_says), "{id}: a remedy that heals needs no other: {item}");
            host.run(healed).await?;
        }
        let report = host.doctor()?;
        assert_eq!(report.wrong(), [], "{id} after {provoked} and {remedy:?}");
    }
    Ok(())
}

/// Of these other tests see to it, on servers of their own, with receipts, with partitions, or beside the statement.
const ELSEWHERE: [&str; 5] = [
    "capture.months",
    "observability.slots",
    "observability.transactions",
    "observability.event_triggers",
    "observability.receipts",
];

#[test]
fn every_check_is_provoked() {
    let provoked: BTreeSet<&str> = CASES.iter().map(|case| case.id).chain(ELSEWHERE).collect();
    let all: BTreeSet<&str> = checks().map(|(_, id, _)| id).collect();
    assert_eq!(provoked, all);
}

#[tokio::test]
async fn months_that_have_no_table_are_found_and_made_by_an_installation() -> anyhow::Result<()> {
    let name = format!("doctor_months_{}", Uuid::new_v4().simple());
    let database = timeline_database_as(&shared().postgres, &name, Layout::Monthly).await?;
    let mut host = Host::on(database).await?;
    assert_eq!(host.doctor()?.wrong(), []);
    let month = next_month(&mut host).await?;
    host.run(&format!("drop table {month}")).await?;
    let report = host.doctor()?;
    let item = report.item("capture.months");
    assert_eq!(
        (&item["state"], item["remedy"][0]["text"].as_str()),
        (&"attention".into(), Some("threadline install"))
    );
    for step in item["remedy"].as_array().cloned().unwrap_or_default() {
        host.follow(&step).await?;
    }
    assert_eq!(host.doctor()?.wrong(), []);
    // What is granted on one of them alone is found too.
    host.run(&format!("grant delete on {month} to audit_reader")).await?;
    let report = host.doctor()?;
    assert_eq!(report.item("capture.rights")["state"], "failed");
    let step = report.item("capture.rights")["remedy"][0].clone();
    host.follow(&step).await?;
    // A change that is in no month.
    host.run("insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
              select id, 'public', 'users', '{\"id\": \"1\"}', 'insert', '{}', now() - interval '9 months' from audit_transactions limit 1")
        .await?;
    assert_eq!(host.doctor()?.wrong().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["capture.months"]);
    Ok(())
}

async fn next_month(host: &mut Host) -> anyhow::Result<String> {
    let next = "select 'audit_changes_' || to_char(date_trunc('month', now() at time zone 'UTC') + interval '1 month', 'YYYY_MM')";
    Ok(sqlx::query_scalar(next).fetch_one(&mut host.connection).await?)
}
