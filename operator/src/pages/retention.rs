//! How long what is kept, and what was purged: windows, runs, the horizon, archives. What destroys is shown as a command.

use maud::{Markup, html};
use serde_json::json;
use threadline::{
    capture::HostTable,
    retention::{self, Horizon, Policy, Purgeable, RecordedArchive, RecordedRun},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Policies,
    asked::{Answered, Asked},
    failure::Failure,
    view::{
        View,
        amount::{bytes, grouped, to_run},
        copy, empty, facts, text,
    },
};

/// Runs that are shown.
const RUNS: u16 = 40;

/// Archives of a run that are shown.
const ARCHIVES: usize = 200;

pub(crate) async fn page(asked: Asked) -> Answered {
    let schema = &asked.shared.schema;
    let wanted = asked.query.get("run").map(Uuid::try_parse).transpose();
    let wanted = wanted.map_err(|_| Failure::unusable("run_invalid", "A run is named by its id, a UUID."))?;
    let mut connection = asked.shared.pool.acquire().await?;
    let runs = retention::runs(&mut connection, schema, RUNS).await?;
    let archives = match wanted {
        Some(run) => retention::archives(&mut connection, schema, Some(run)).await?,
        None => Vec::new(),
    };
    drop(connection);
    let reader = asked.reader();
    let changes = retention::horizon(&reader, Purgeable::Changes).await?;
    let actions = retention::horizon(&reader, Purgeable::Actions).await?;
    let host = asked.shared.policies.as_ref();
    let policy = host.and_then(|host| host.retention.as_ref());
    let next = next_run(host, &runs);
    let data = json!({
        "policy": policy.map(described),
        "horizon": {"changes": changes, "actions": actions},
        "next_run_not_before": next.map(threadline::query::time_text),
        "runs": runs,
        "archives": archives,
    });
    asked.answer("Retention", &data, |view| html! {
        (windows(view, policy))
        section {
            h2 { "What is gone" }
            (facts(&[
                ("Changes", Some(horizon(changes.as_ref()))),
                ("Actions", Some(horizon(actions.as_ref()))),
                ("Last runs", (!runs.is_empty()).then(|| sums(&runs))),
                ("Next run", next.map(|at| html! { "not before " (view.age(at)) })),
            ]))
        }
        @if let Some(run) = wanted { (archives_of(view, run, &archives)) }
        (list(view, &runs))
        section {
            h2 { "To delete" }
            p { "Nothing is deleted here. What the policy no longer keeps is deleted by " code { "threadline retention purge --execute" } "; "
                code { "threadline retention purge --dry-run" } " says first what that would be." }
            p { "Values of a person or a row are erased by " code { "threadline erase" } ", which keeps that there was something." }
        }
    })
}

/// What a policy says, for programs.
fn described(policy: &Policy) -> serde_json::Value {
    let tables: serde_json::Map<String, serde_json::Value> =
        policy.tables().map(|(table, keep)| (table.to_string(), keep.to_string().into())).collect();
    json!({
        "enabled": policy.is_enabled(),
        "changes": policy.others().to_string(),
        "tables": tables,
        "actions": policy.kept_actions().to_string(),
    })
}

/// Where the host says how often it purges: after the end of the last run.
fn next_run(host: Option<&Policies>, runs: &[RecordedRun]) -> Option<OffsetDateTime> {
    let (host, last) = (host?, runs.first()?);
    host.retention.as_ref().filter(|policy| policy.is_enabled())?;
    last.completed_at?.checked_add(host.purges_every?.try_into().ok()?)
}

fn windows(view: &View<'_>, policy: Option<&Policy>) -> Markup {
    let row = |name: Markup, keep: retention::Keep| html! { tr { th scope="row" { (name) } td { (keep.to_string()) } } };
    let name = |table: &HostTable| {
        html! { a href=(view.links.with("timeline", &[("table", &table.to_string())])) { (text::line(&text::table_name(&table.schema, &table.name))) } }
    };
    html! {
        section {
            h2 { "What is kept" }
            @match policy {
                None => p { "This surface was not told what is configured: what was deleted is shown alone. Without an enabled policy nothing is ever deleted." },
                Some(policy) => {
                    @if !policy.is_enabled() { p { span.status.error { "off" } " The policy is not enabled: nothing is deleted." } }
                    table {
                        caption.visually-hidden { "How long what is kept" }
                        thead { tr { th scope="col" { "What" } th scope="col" { "Kept" } } }
                        tbody {
                            @for (table, keep) in policy.tables() { (row(html! { "Changes of " (name(table)) }, keep)) }
                            (row(html! { "Changes of all other tables" }, policy.others()))
                            (row(html! { "Actions" }, policy.kept_actions()))
                        }
                    }
                }
            }
        }
    }
}

fn horizon(horizon: Option<&Horizon>) -> Markup {
    horizon.map_or_else(
        || html! { "nothing was deleted: the timeline is whole" },
        |horizon| text::cut(&horizon.to_string(), 1_000),
    )
}

/// What the runs that are shown have done together.
fn sums(runs: &[RecordedRun]) -> Markup {
    let sum = |of: fn(&RecordedRun) -> Option<i64>| {
        grouped(runs.iter().filter_map(of).fold(0, i64::saturating_add))
    };
    let failed = runs.iter().filter(|run| !matches!(run.status.as_str(), "completed" | "running")).count();
    html! {
        (sum(|run| run.deleted_changes)) " changes, " (sum(|run| run.deleted_transactions)) " transactions and " (sum(|run| run.deleted_actions))
        " actions in " (runs.len()) " runs, of which " (failed) " did not end well"
    }
}

fn list(view: &View<'_>, runs: &[RecordedRun]) -> Markup {
    html! {
        section {
            h2 { "Runs" }
            @if runs.is_empty() {
                (empty("No runs", &html! { "Nothing was ever purged, here or by the Elixir library." }))
            } @else {
                table.list {
                    caption { "The last runs" }
                    thead { tr {
                        th scope="col" { "Began" } th scope="col" { "Status" } th scope="col" { "Changes" } th scope="col" { "Transactions" }
                        th scope="col" { "Actions" } th scope="col" { "Took" } th scope="col" { "Archived" }
                    } }
                    tbody { @for run in runs { tr {
                        th scope="row" { @if let Some(at) = run.started_at { (view.time(at)) } @else { span.none { "not known" } } }
                        td data-name="Status" {
                            @let class = if run.status == "completed" { "status ok" } else if run.status == "running" { "status" } else { "status error" };
                            span class=(class) { (text::line(&run.status)) }
                            @if let Some(why) = &run.error_message { br; (text::cut(why, 500)) }
                        }
                        td data-name="Changes" { (count(run.deleted_changes)) }
                        td data-name="Transactions" { (count(run.deleted_transactions)) }
                        td data-name="Actions" { (count(run.deleted_actions)) }
                        td data-name="Took" { @if let Some(ms) = run.duration_ms { (grouped(ms)) " ms" } @else { span.none { "–" } } }
                        td data-name="Archived" {
                            @if let Some(archived) = &run.archived {
                                a href=(view.links.with("policy/retention", &[("run", &run.id.to_string())])) { (archived.files) " files, " (archived.rows) " entries" }
                            } @else { span.none { "nothing" } }
                        }
                    } } }
                }
            }
        }
    }
}

fn count(count: Option<i64>) -> Markup {
    html! { @if let Some(count) = count { (grouped(count)) } @else { span.none { "–" } } }
}

fn archives_of(view: &View<'_>, run: Uuid, archives: &[RecordedArchive]) -> Markup {
    html! {
        section {
            h2 { "Archives of run " code { (run) } }
            @if archives.is_empty() {
                (empty("No archives", &html! { "This run has archived nothing, or there is no such run." }))
            } @else {
                p { "Whether they are what they were: " (to_run(&format!("threadline retention archives verify {run}"))) }
                table.list {
                    caption { "Archives" }
                    thead { tr { th scope="col" { "What" } th scope="col" { "Entries" } th scope="col" { "Size" } th scope="col" { "File" } th scope="col" { "SHA-256" } th scope="col" { "Manifest" } } }
                    tbody { @for archive in archives.iter().take(ARCHIVES) { tr {
                        th scope="row" {
                            (text::line(&archive.what))
                            @if let (Some(schema), Some(table)) = (&archive.table_schema, &archive.table_name) { " of " (text::line(&text::table_name(schema, table))) }
                            " before " (view.time(archive.cutoff))
                        }
                        td data-name="Entries" { (grouped(archive.rows)) }
                        td data-name="Size" { (bytes(archive.bytes)) }
                        td data-name="File" { (text::cut(&archive.location, 300)) }
                        td data-name="SHA-256" { code { (text::cut(&archive.sha256, 16)) } " " (copy("SHA-256", &archive.sha256)) }
                        td data-name="Manifest" {
                            code { (text::cut(&archive.manifest_sha256, 16)) } " " (copy("SHA-256 of the manifest", &archive.manifest_sha256))
                            @if archive.key.is_some() { " signed" }
                        }
                    } } }
                }
                @if archives.len() > ARCHIVES { p.more { "And " (archives.len() - ARCHIVES) " more: " (to_run(&format!("threadline retention archives --run {run}"))) } }
            }
        }
    }
}
