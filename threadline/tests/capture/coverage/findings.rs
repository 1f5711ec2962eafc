//! Each kind of finding is provoked, and its remedy ends it.

use sandbox::fixture::TestDatabase;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::coverage::{
    Expectations, Finding, FindingCode,
    FindingCode::{
        CaptureOff, CaptureTriggerDisabled, DuplicateCaptureTrigger, LegacyTriggerNoPkArgs, LevelBlind,
        MalformedContextSeen, MissingTrigger, PartitionWithoutCapture, PkDrift, PolicyDrift,
        SharedCaptureFunction, UnloggedTable, UnresolvedLegacyKeys, VirtualColumnAdded,
    },
    Severity,
    Severity::{Error, Warning},
};
use threadline::{ActorRef, ActorType, StorageSchema, continuity::disable_capture};

use super::{capture, host, report, tables, threadline};

/// How a finding comes to be.
struct Case {
    code: FindingCode,
    severity: Severity,
    /// As `schema.table`.
    about: &'static str,
    tables: &'static str,
    /// Captured by us before.
    captured: &'static [&'static str],
    provoked: &'static str,
    /// Of the server, its first version that can do this.
    since: i32,
}

const TABLE: &str = "create table a (id int primary key, v int)";
const PARTITIONED: &str = "create table p (id int primary key) partition by range (id);
     create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20)";

const fn case(code: FindingCode, severity: Severity, about: &'static str) -> Case {
    Case { code, severity, about, tables: TABLE, captured: &["a"], provoked: "", since: 0 }
}

const CASES: &[Case] = &[
    Case {
        captured: &[],
        provoked: "create trigger threadline_audit_a after insert or update or delete on a
                   for each row execute function threadline_capture_changes()",
        ..case(LegacyTriggerNoPkArgs, Warning, "public.a")
    },
    Case {
        provoked: "alter table a rename id to ident",
        ..case(PkDrift, Error, "public.a")
    },
    Case {
        tables: "create table a (id int primary key); create table b (id int primary key)",
        provoked: "create trigger threadline_audit_b after insert or update or delete on b
                   for each row execute function threadline_capture_changes_a('id')",
        ..case(SharedCaptureFunction, Error, "public.b")
    },
    Case {
        tables: "create table a (id int primary key); create table b (id int primary key)",
        provoked: "create trigger by_hand after insert on b for each row execute function threadline_capture_changes_a('id')",
        ..case(SharedCaptureFunction, Error, "public.b")
    },
    Case {
        provoked: "create trigger threadline_audit_old after insert or update or delete on a
                   for each row execute function threadline_capture_changes('id')",
        ..case(DuplicateCaptureTrigger, Error, "public.a")
    },
    Case {
        tables: PARTITIONED,
        captured: &["p"],
        provoked: "create trigger threadline_audit_p1 after insert or update or delete on p1
                   for each row execute function threadline_capture_changes('id')",
        ..case(DuplicateCaptureTrigger, Error, "public.p")
    },
    Case {
        provoked: "alter table a disable trigger user",
        ..case(CaptureTriggerDisabled, Error, "public.a")
    },
    Case {
        tables: PARTITIONED,
        captured: &["p"],
        provoked: "alter table p2 enable replica trigger threadline_audit_p",
        ..case(CaptureTriggerDisabled, Error, "public.p")
    },
    Case {
        tables: "create table a (code text primary key)",
        captured: &[],
        provoked: "create trigger threadline_audit_a after insert or update or delete on a
                   for each row execute function threadline_capture_changes();
                   insert into a values ('x'), ('y'); update a set code = 'z' where code = 'y'",
        ..case(UnresolvedLegacyKeys, Warning, "public.a")
    },
    Case {
        tables: PARTITIONED,
        captured: &[],
        provoked: "create trigger threadline_audit_p1 after insert or update or delete on p1
                   for each row execute function threadline_capture_changes('id')",
        ..case(PartitionWithoutCapture, Error, "public.p")
    },
    Case {
        tables: PARTITIONED,
        captured: &["p"],
        provoked: "create table p3 partition of p for values from (20) to (30)",
        ..case(PartitionWithoutCapture, Warning, "public.p")
    },
    Case {
        tables: PARTITIONED,
        captured: &["p"],
        provoked: "alter table p detach partition p2",
        ..case(PartitionWithoutCapture, Error, "public.p2")
    },
    Case {
        provoked: "create table heir () inherits (a)",
        ..case(LevelBlind, Error, "public.a")
    },
    Case {
        provoked: "alter table a add column document json",
        ..case(LevelBlind, Error, "public.a")
    },
    Case {
        provoked: "create subscription incoming connection 'dbname=nowhere' publication theirs with (connect = false, slot_name = none);
                   set allow_system_table_mods = on;
                   insert into pg_subscription_rel
                   select s.oid, 'a'::regclass, 'r', null from pg_subscription s where s.subname = 'incoming'",
        ..case(LevelBlind, Error, "public.a")
    },
    Case {
        tables: "create unlogged table a (id int primary key)",
        ..case(UnloggedTable, Warning, "public.a")
    },
    Case {
        provoked: "alter function threadline_capture_changes_a() security invoker",
        ..case(PolicyDrift, Error, "public.a")
    },
    Case {
        provoked: "drop table a",
        ..case(PolicyDrift, Warning, "public.a")
    },
    Case {
        provoked: "begin; set local threadline.context = '{not'; insert into a values (1); commit",
        ..case(MalformedContextSeen, Warning, "public.audit_transactions")
    },
    Case {
        provoked: "drop trigger threadline_delete_a on a",
        ..case(MissingTrigger, Error, "public.a")
    },
    Case {
        provoked: "drop trigger threadline_truncate_a on a",
        ..case(MissingTrigger, Error, "public.a")
    },
    Case {
        provoked: "alter table a add column twice int generated always as (v * 2) virtual",
        since: 180_000,
        ..case(VirtualColumnAdded, Error, "public.a")
    },
];

#[test]
fn every_kind_of_finding_has_a_case() {
    // Switching off has a test of its own.
    for code in FindingCode::ALL.into_iter().filter(|code| *code != CaptureOff) {
        assert!(CASES.iter().any(|case| case.code == code), "{code} is not provoked");
    }
}

async fn found(connection: &mut PgConnection, case: &Case) -> anyhow::Result<Option<Finding>> {
    let report = report(connection, &Expectations::default()).await?;
    assert_eq!(report.skipped, []);
    let mut findings = report.schemas.into_iter().flat_map(|one| one.findings);
    Ok(findings.find(|one| one.code == case.code && format!("{}.{}", one.schema, one.table) == case.about))
}

/// Does what a finding says.
pub(super) async fn apply(
    database: &TestDatabase,
    connection: &mut PgConnection,
    finding: &Finding,
) -> anyhow::Result<()> {
    for step in &finding.remedy {
        if let Some(command) = step.strip_prefix("threadline ") {
            let arguments: Vec<&str> = command.split(' ').collect();
            let ended = threadline(database, "", &arguments)?;
            assert_eq!(ended.status, Some(0), "{step}: {} {}", ended.out, ended.error);
        } else {
            connection.execute(AssertSqlSafe(step.clone())).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_finding_is_provoked_and_its_remedy_ends_it() -> anyhow::Result<()> {
    for case in CASES {
        let (database, mut owner) = host(case.tables).await?;
        let name = format!("{} ({})", case.code, case.provoked);
        let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut owner)
            .await?;
        if version < case.since {
            continue;
        }
        for table in case.captured {
            capture(&mut owner, &[(table, json!({}))]).await?;
        }
        let is_subscription = case.provoked.starts_with("create subscription");
        let mut connection = if is_subscription { database.superuser().await? } else { owner };
        if case.code != UnloggedTable {
            assert_eq!(found(&mut connection, case).await?, None, "{name}");
        }
        connection.execute(case.provoked).await?;
        let finding = found(&mut connection, case).await?;
        let Some(finding) = finding else { panic!("{name} was not found") };
        assert_eq!(finding.severity, case.severity, "{name}");
        apply(&database, &mut connection, &finding).await?;
        // What was recorded stays recorded.
        if case.code != MalformedContextSeen {
            assert_eq!(found(&mut connection, case).await?, None, "{name} after {:?}", finding.remedy);
        }
        if is_subscription {
            connection.execute("drop subscription incoming").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_finding_in_json_has_its_code_severity_place_message_remedy_and_details() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("a", json!({}))]).await?;
    connection.execute("alter table a disable trigger threadline_delete_a").await?;
    let report = report(&mut connection, &Expectations::default()).await?;
    let findings: Value = serde_json::to_value(&report.schemas[0].findings)?;
    assert_eq!(
        findings,
        json!([{
            "code": "capture_trigger_disabled", "severity": "error", "schema": "public", "table": "a",
            "message": "1 of its triggers does not fire in ordinary sessions: threadline_delete_a on public.a",
            "remedy": ["alter table only \"public\".\"a\" enable trigger \"threadline_delete_a\""],
            "details": {"triggers": [{"table": "public.a", "trigger": "threadline_delete_a", "state": "disabled"}]}
        }])
    );
    Ok(())
}

#[tokio::test]
async fn capture_that_was_switched_off_is_told_from_a_trigger_that_somebody_disabled() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("a", json!({}))]).await?;
    let (storage, tables) = (StorageSchema::default(), tables(&["a"]));
    let actor = ActorRef::new(ActorType::Admin, Some("a1"))?;
    disable_capture(&mut connection, &storage, &tables, &actor, "bulk load").await?;
    let off = report(&mut connection, &Expectations::default()).await?.schemas.remove(0);
    assert_eq!(off.uncovered, ["a"]);
    let codes: Vec<FindingCode> = off.findings.iter().map(|one| one.code).collect();
    assert_eq!(codes, [CaptureOff]);
    assert_eq!(
        off.findings[0].remedy,
        ["threadline capture on --tables public.a --actor TYPE:ID --reason TEXT"]
    );
    let details = &off.findings[0].details;
    assert_eq!((&details["actor"]["id"], &details["reason"]), (&json!("a1"), &json!("bulk load")));
    let by_hand = "capture on --tables public.a --actor admin:a1 --reason done";
    let arguments: Vec<&str> = by_hand.split(' ').collect();
    assert_eq!(threadline(&database, "", &arguments)?.status, Some(0));
    let on = report(&mut connection, &Expectations::default()).await?.schemas.remove(0);
    assert_eq!((on.covered, on.findings), (vec!["a".to_owned()], vec![]));
    Ok(())
}
