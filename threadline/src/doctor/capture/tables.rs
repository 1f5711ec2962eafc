//! The host's tables.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    capture::{HostTable, deployed::command},
    coverage::{FindingCode, Report, verdict, verdict::Status},
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
};

/// Changes that are looked at.
const SAMPLE: i64 = 1_000;

/// The commands that capture tables, as far as a command line can name them. Triggers that are there and disabled stay so when they are made
/// again: what is said of these is said here too.
fn capture(report: &Report, tables: &[HostTable]) -> Vec<Remedy> {
    let disabled = [FindingCode::CaptureOff, FindingCode::CaptureTriggerDisabled];
    let steps = |table: &HostTable| -> Vec<Remedy> {
        let found = report.schemas.iter().flat_map(|one| &one.findings).find(|finding| {
            disabled.contains(&finding.code) && finding.schema == table.schema && finding.table == table.name
        });
        if let Some(finding) = found {
            return finding.remedy.iter().map(|step| Remedy::of_step(step)).collect();
        }
        let commands = command(table, "", None).into_iter();
        commands.map(|command| Remedy::command(format!("{command} --apply"))).collect()
    };
    tables.iter().flat_map(steps).collect()
}

pub(super) async fn expected(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let report = match &facts.coverage {
        Ok(report) => report,
        Err(why) => return Ok(Outcome::unknown(why)),
    };
    let expected = &facts.expectations.expected;
    if expected.is_empty() {
        let covered: Vec<String> = report
            .schemas
            .iter()
            .flat_map(|one| {
                one.covered.iter().map(|table| format!("{:?}", format!("{}.{table}", one.schema)))
            })
            .collect();
        if covered.is_empty() && facts.expectations.expects_none {
            return Ok(Outcome::ok("none is captured, as the settings expect"));
        }
        let seen = format!("{} tables are captured, and the settings expect none to be", covered.len());
        let line = format!("expected = [{}]", covered.join(", "));
        return Ok(Outcome::attention(seen).remedy([Remedy::setting("[coverage]", &[line])]));
    }
    let verdict = verdict(report, expected);
    let with = |status: Status| -> Vec<HostTable> {
        let is_so = |table: &&HostTable| {
            verdict.violations.iter().any(|one| one.status == status && one.table == table.to_string())
        };
        expected.iter().filter(is_so).cloned().collect()
    };
    let (missing, uncovered) = (with(Status::Missing), with(Status::Uncovered));
    if missing.is_empty() && uncovered.is_empty() {
        return Ok(Outcome::ok(format!("{} of {} expected tables", verdict.expected, verdict.expected)));
    }
    let captured = verdict.expected - missing.len() - uncovered.len();
    let mut seen = format!("{captured} of {} expected tables", verdict.expected);
    let mut steps = capture(report, &uncovered);
    if !uncovered.is_empty() {
        let _ = write!(seen, "; not captured: {}", listed(&uncovered));
    }
    if !missing.is_empty() {
        let _ = write!(seen, "; not there: {}", listed(&missing));
        steps.push(Remedy::advice(
            "create the tables that are not there, or expect them no more in the settings",
        ));
    }
    Ok(Outcome::failed(seen).remedy(steps))
}

pub(super) async fn undecided(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let report = match &facts.coverage {
        Ok(report) => report,
        Err(why) => return Ok(Outcome::unknown(why)),
    };
    let mut undecided: Vec<String> = Vec::new();
    for coverage in &report.schemas {
        for name in &coverage.uncovered {
            let table = HostTable { schema: coverage.schema.clone(), name: name.clone() };
            if !facts.expectations.expected.contains(&table) {
                undecided.push(table.to_string());
            }
        }
    }
    if undecided.is_empty() {
        return Ok(Outcome::ok("no other table"));
    }
    let seen = format!(
        "{} tables are neither captured nor left out on purpose: {}",
        undecided.len(),
        listed(&undecided)
    );
    let names: Vec<String> = undecided.iter().map(|name| format!("{name:?}")).collect();
    let line = format!("expected_uncovered = [{}]", names.join(", "));
    Ok(Outcome::attention(seen).remedy([Remedy::setting("[coverage]", &[line])]))
}

pub(super) async fn triggers(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("capture.triggers"))
}

pub(super) async fn off(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("capture.off"))
}

pub(super) async fn keys(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let statement = format!(
        "select count(*), count(*) filter (where c.table_pk = any (array['{{}}', '{{\"id\": null}}']::jsonb[]) and c.op <> 'truncate')
         from (select table_pk, op from {} order by captured_at desc, id desc limit $1) c",
        facts.table("audit_changes")
    );
    let (seen, without): (i64, i64) =
        sqlx::query_as(AssertSqlSafe(statement)).persistent(false).bind(SAMPLE).fetch_one(connection).await?;
    if seen == 0 {
        return Ok(Outcome::not_applicable("nothing was captured yet"));
    }
    let words = format!("{without} of the newest {seen} changes name no row");
    if without == 0 {
        return Ok(Outcome::ok(words));
    }
    Ok(Outcome::attention(words).remedy([Remedy::command("threadline backfill-keys")]))
}
