//! Which tables are captured, which are not, and what is wrong with those that are.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    ActorRef,
    capture::{HostTable, Level},
    coverage::{self, CHANGES_MAX, Coverage, DAYS, Finding, FindingCode, Severity, policy_status, verdict},
};
use time::OffsetDateTime;

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    kept::{Reading, Seen},
    view::{
        View,
        amount::{bytes, grouped, to_run},
        command, empty, spark, text,
    },
};

/// Looks, unless somebody has a moment ago.
pub(crate) async fn observe(asked: &Asked) -> Result<Reading<Seen>, Failure> {
    asked.shared.coverage.observe(asked.now, asked.fresh(), read(asked)).await
}

async fn read(asked: &Asked) -> Result<Seen, Failure> {
    let expectations = asked.shared.expectations();
    let schema = &asked.shared.schema;
    let mut connection = asked.shared.pool.acquire().await?;
    let report = coverage::read(&mut connection, schema, None, &expectations).await?;
    let policies = coverage::policies(&mut connection, schema, &expectations).await?;
    let tables: Vec<HostTable> = report.schemas.iter().flat_map(names).collect();
    // They are worth a look, and no reason to show nothing.
    let facts = coverage::table_facts(&mut connection, schema, &tables).await.unwrap_or_else(|error| {
        tracing::warn!(error = %errors::line(&error), "last changes and sizes of tables cannot be read");
        Vec::new()
    });
    let facts = tables.iter().cloned().zip(facts).collect();
    let by_day = coverage::changes_by_day(&mut connection, schema, &tables).await.unwrap_or_else(|error| {
        tracing::warn!(error = %errors::line(&error), "changes of tables cannot be counted");
        None
    });
    let by_day = tables.into_iter().zip(by_day.unwrap_or_default()).collect();
    let expected = &expectations.expected;
    let violations = (!expected.is_empty()).then(|| verdict(&report, expected).violations);
    Ok(Seen { report, policies, facts, by_day, violations })
}

fn names(coverage: &Coverage) -> Vec<HostTable> {
    let gaps = coverage.expected_uncovered.iter().map(|gap| &gap.table);
    let all = coverage.covered.iter().chain(&coverage.uncovered).chain(gaps);
    all.map(|name| HostTable { schema: coverage.schema.clone(), name: name.clone() }).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Captured,
    NeedsCapture,
    ExpectedGap,
}

/// A table as it stands.
#[derive(Debug, Serialize)]
struct Row<'s> {
    schema: &'s str,
    table: &'s str,
    state: State,
    /// Who says that it is not to be captured.
    source: Option<coverage::Source>,
    level: Option<Level>,
    policy: Option<policy_status::Status>,
    /// Whether settings say what its policy is to be.
    configured: bool,
    last_change: Option<String>,
    bytes: Option<i64>,
    /// Changes on each of the last 14 days, the oldest first, up to 1,000 on each.
    changes_by_day: Option<&'s [i64]>,
    findings: Vec<&'s Finding>,
    /// What has it captured.
    command: Option<String>,
    #[serde(skip)]
    last_change_at: Option<OffsetDateTime>,
}

#[derive(Debug, Serialize)]
struct Shown<'s> {
    looked_at: String,
    stale: Option<String>,
    /// Whether the surface was told what is expected.
    configured: bool,
    /// None where nothing is known to be wrong, and nothing of what is expected.
    ready: Option<bool>,
    captured: usize,
    needs_capture: usize,
    expected_gaps: usize,
    errors: usize,
    warnings: usize,
    violations: &'s Option<Vec<verdict::TableStatus>>,
    schemas: Vec<&'s str>,
    tables: Vec<Row<'s>>,
    other_findings: Vec<&'s Finding>,
    skipped: &'s [coverage::Skipped],
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let reading = observe(&asked).await?;
    let wanted = asked.query.get("schema");
    let schemas: Vec<&str> = reading.value.report.schemas.iter().map(|one| one.schema.as_str()).collect();
    if let Some(wanted) = wanted.filter(|wanted| !schemas.contains(wanted)) {
        return Err(Failure::unusable(
            "schema_unknown",
            format!(
                "There is no schema {wanted:?} with tables: leave schema out to see those that there are."
            ),
        ));
    }
    let shown = shown(&reading, schemas, wanted, asked.shared.policies.is_some());
    asked.answer("Coverage", &shown, |view| html! {
        (verdict_of(view, &reading, &shown))
        (choice(view, &shown, wanted))
        @if shown.tables.is_empty() {
            (empty("No tables", &html! { "There is no table here besides those of the timeline itself." }))
        } @else { (table(view, &shown.tables)) }
        (findings(&shown, asked.grant.actor()))
        section {
            h2 { "Everything else" }
            p { "Actors, redaction, retention, exports, the server, and what is left of earlier times: " a href=(view.links.to("coverage/checks")) { "all checks" } "." }
        }
    })
}

fn shown<'s>(
    reading: &'s Reading<Seen>,
    schemas: Vec<&'s str>,
    wanted: Option<&str>,
    configured: bool,
) -> Shown<'s> {
    let Seen { report, violations, .. } = &*reading.value;
    let chosen: Vec<&Coverage> =
        report.schemas.iter().filter(|one| wanted.is_none_or(|wanted| one.schema == wanted)).collect();
    let mut tables: Vec<Row<'_>> = chosen.iter().flat_map(|one| rows(&reading.value, one)).collect();
    tables.sort_by_key(|row| (row.schema, row.table));
    let known: BTreeSet<(&str, &str)> = tables.iter().map(|row| (row.schema, row.table)).collect();
    let findings = || chosen.iter().flat_map(|one| &one.findings);
    let count = |state: State| tables.iter().filter(|row| row.state == state).count();
    let severe = |severity: Severity| findings().filter(|finding| finding.severity == severity).count();
    let (needs_capture, errors) = (count(State::NeedsCapture), severe(Severity::Error));
    // Where the host names what it expects, that decides; else every table counts.
    let ready = match violations {
        Some(violations) => Some(violations.is_empty()),
        None if configured => Some(needs_capture == 0 && errors == 0),
        None => (errors > 0).then_some(false),
    };
    Shown {
        looked_at: threadline::query::time_text(reading.at),
        stale: reading.failure.as_ref().map(Failure::text),
        configured,
        ready,
        captured: count(State::Captured),
        needs_capture,
        expected_gaps: count(State::ExpectedGap),
        errors,
        warnings: severe(Severity::Warning),
        violations,
        schemas,
        other_findings: findings()
            .filter(|one| !known.contains(&(one.schema.as_str(), one.table.as_str())))
            .collect(),
        tables,
        skipped: &report.skipped,
    }
}

fn rows<'s>(seen: &'s Seen, coverage: &'s Coverage) -> Vec<Row<'s>> {
    let row = |table: &'s String, state: State, source| {
        let name = HostTable { schema: coverage.schema.clone(), name: table.clone() };
        let policy = seen.policies.iter().find(|one| one.table == name);
        let facts = seen.facts.get(&name);
        let last_change_at = facts.and_then(|facts| facts.last_change_at);
        Row {
            schema: &coverage.schema,
            table,
            state,
            source,
            level: policy.and_then(|one| one.deployed.as_ref()?.level),
            policy: policy.map(|one| one.status),
            configured: policy.is_some_and(|one| one.configured.is_some()),
            last_change: last_change_at.map(threadline::query::time_text),
            last_change_at,
            bytes: facts.and_then(|facts| facts.bytes),
            changes_by_day: seen.by_day.get(&name).map(Vec::as_slice),
            findings: coverage.findings.iter().filter(|one| one.table == *table).collect(),
            command: (state == State::NeedsCapture).then(|| coverage::capture_command(&name)).flatten(),
        }
    };
    let captured = coverage.covered.iter().map(|table| row(table, State::Captured, None));
    let uncovered = coverage.uncovered.iter().map(|table| row(table, State::NeedsCapture, None));
    let gaps =
        coverage.expected_uncovered.iter().map(|gap| row(&gap.table, State::ExpectedGap, Some(gap.source)));
    captured.chain(uncovered).chain(gaps).collect()
}

fn verdict_of(view: &View<'_>, reading: &Reading<Seen>, shown: &Shown<'_>) -> Markup {
    html! {
        section.verdict {
            p {
                @match shown.ready {
                    Some(true) => { span.status.ok { "ready" } },
                    Some(false) => { span.status.error { "not ready" } },
                    None => { span.status { "deployed" } },
                }
                " " (grouped_of(shown.captured, "table is captured", "tables are captured"))
                ", " (grouped_of(shown.needs_capture, "needs capture", "need capture"))
                ", " (grouped_of(shown.expected_gaps, "is left out on purpose", "are left out on purpose"))
                "; " (grouped_of(shown.errors, "error", "errors")) ", " (grouped_of(shown.warnings, "warning", "warnings")) "."
            }
            @if !shown.configured { p { "This surface was not told what is expected: what is deployed is shown alone." } }
            @if let Some(violations) = shown.violations.as_ref().filter(|violations| !violations.is_empty()) {
                p { "Expected, and not captured as they should be:" }
                ul { @for one in violations.iter().take(100) { li { (text::line(&one.table)) ": " (one.status.as_str().replace('_', " ")) } } }
            }
            (view.read(reading))
        }
    }
}

fn grouped_of(count: usize, one: &str, several: &str) -> String {
    let number = i64::try_from(count).unwrap_or(i64::MAX);
    format!("{} {}", grouped(number), if count == 1 { one } else { several })
}

fn choice(view: &View<'_>, shown: &Shown<'_>, wanted: Option<&str>) -> Markup {
    html! {
        form.filter action=(view.links.to("coverage")) {
            label for="schema" { "Schema" }
            select #schema name="schema" {
                option value="" selected[wanted.is_none()] { "all" }
                @for schema in &shown.schemas { option value=(schema) selected[wanted == Some(schema)] { (threadline::visible::text(schema)) } }
            }
            button { "Show" }
            button name="refresh" value="1" { "Look again" }
        }
    }
}

fn table(view: &View<'_>, rows: &[Row<'_>]) -> Markup {
    html! {
        table.list {
            caption { "Tables" }
            thead { tr {
                th scope="col" { "Table" } th scope="col" { "Captured" } th scope="col" { "Level" } th scope="col" { "Policy" }
                th scope="col" { "Findings" } th scope="col" { "Last change" } th scope="col" { "Last " (DAYS) " days" } th scope="col" { "Size" }
            } }
            tbody { @for row in rows { tr {
                @let name = format!("{}.{}", row.schema, row.table);
                th scope="row" {
                    @if row.state == State::Captured {
                        a href=(view.links.with("timeline", &[("table", &name), ("last", "24h")])) { (text::line(&text::table_name(row.schema, row.table))) }
                    } @else { (text::line(&text::table_name(row.schema, row.table))) }
                }
                td data-name="Captured" { (state(row)) }
                td data-name="Level" { @if let Some(level) = row.level { (level.as_str()) } @else { span.none { "–" } } }
                td data-name="Policy" { (policy(view, row)) }
                td data-name="Findings" {
                    @if row.findings.is_empty() { span.none { "none" } }
                    @for finding in &row.findings { (severity(finding)) " " (finding.code.as_str().replace('_', " ")) br; }
                }
                td data-name="Last change" { @if let Some(at) = row.last_change_at { (view.time(at)) } @else { span.none { "none known" } } }
                td data-name="Changes by day" {
                    @match row.changes_by_day.filter(|days| days.iter().any(|changes| *changes > 0)) {
                        Some(days) => (spark::line(&format!("Changes by day, up to {} on each", grouped(CHANGES_MAX)), days)),
                        None => span.none { "–" },
                    }
                }
                td data-name="Size" { @if let Some(size) = row.bytes { (bytes(size)) } @else { span.none { "–" } } }
            } } }
        }
    }
}

fn state(row: &Row<'_>) -> Markup {
    let is_off = row.findings.iter().any(|finding| finding.code == FindingCode::CaptureOff);
    match row.state {
        _ if is_off => html! { span.status.error { "capture is off" } },
        State::Captured => html! { span.status.ok { "captured" } },
        State::NeedsCapture => html! {
            span.status.error { "needs capture" }
            @if let Some(command) = &row.command { br; (to_run(command)) }
        },
        State::ExpectedGap => html! {
            span.status { "left out" } " "
            @if let Some(source) = row.source { "by the " (source.as_str()) }
        },
    }
}

fn policy(view: &View<'_>, row: &Row<'_>) -> Markup {
    let link = |word: &str| {
        let name = format!("{}.{}", row.schema, row.table);
        html! { a href=(view.links.with("policy/redaction", &[("table", &name)])) { (word) } }
    };
    row.policy.map_or_else(|| html! { span.none { "–" } }, |status| link(compared(status, row.configured)))
}

/// How what is deployed compares with what is configured, in words.
pub(super) fn compared(status: policy_status::Status, is_configured: bool) -> &'static str {
    match status {
        policy_status::Status::ConfigMatchesDeployed if is_configured => "as it should be",
        policy_status::Status::ConfigMatchesDeployed => "deployed, nothing to compare with",
        policy_status::Status::DriftDetected => "drift",
        policy_status::Status::CouldNotIntrospect => "cannot be told",
    }
}

fn severity(finding: &Finding) -> Markup {
    let class = if finding.severity == Severity::Error { "status error" } else { "status" };
    html! { span class=(class) { (finding.severity.as_str()) } }
}

/// What is wrong, and exactly what to do about it.
fn findings(shown: &Shown<'_>, actor: &ActorRef) -> Markup {
    let all: Vec<&&Finding> =
        shown.tables.iter().flat_map(|row| &row.findings).chain(&shown.other_findings).collect();
    html! {
        @if !all.is_empty() {
            section {
                h2 { "Findings" }
                @for finding in all {
                    article.finding {
                        h3 { (severity(finding)) " " (text::line(&text::table_name(&finding.schema, &finding.table))) ": " (finding.code.as_str().replace('_', " ")) }
                        p { (text::cut(&finding.message, 1_000)) }
                        @if !finding.remedy.is_empty() {
                            ol { @for step in &finding.remedy { li { (to_run(&command::by(step, actor))) } } }
                        }
                    }
                }
            }
        }
        @if !shown.skipped.is_empty() {
            section {
                h2 { "Not looked for" }
                ul { @for skipped in shown.skipped { li { (skipped.code.as_str().replace('_', " ")) ": " (text::line(&skipped.reason)) } } }
            }
        }
    }
}
