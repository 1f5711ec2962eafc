//! The form for an export, and what was filled in.

use maud::{Markup, html};
use threadline::{
    export::{Format, Options, Profile},
    query::Filter,
};
use uuid::Uuid;

use super::now;
use crate::{
    Capability,
    asked::Asked,
    failure::Failure,
    pairs::Pairs,
    view::{
        View,
        amount::{grouped, to_run},
    },
};

const PROFILES: [(Profile, &str); 3] = [
    (Profile::Exact, "changes, with every digit"),
    (Profile::Compat, "changes, as the Elixir library writes them"),
    (Profile::Full, "changes, actions and events, with everything"),
];

/// What is to be exported, and how.
pub(super) fn read(pairs: &Pairs) -> Result<(Filter, Options), Failure> {
    let filter: Filter = match pairs.get("q") {
        Some(text) => text.parse()?,
        None => pairs.filter()?,
    };
    filter.check()?;
    let format = pairs.get("as").map_or(Ok(Format::default()), str::parse)?;
    let profile = match pairs.get("profile") {
        Some(text) => text.parse()?,
        None if format.only_full() => Profile::Full,
        None => Profile::default(),
    };
    let spreadsheet_safe = format == Format::Csv && pairs.is("safe", "1");
    let options = Options { profile, format, spreadsheet_safe, ..Options::default() };
    options.check(&filter)?;
    Ok((filter, options))
}

pub(super) fn form(asked: &Asked, view: &View<'_>, filter: &Filter) -> Markup {
    let can_queue = asked.may_do(Capability::Export) && asked.shared.exports.is_some();
    let command = format!("threadline export run --output export.csv {}", quoted(&filter.to_string()));
    html! {
        section {
            h2 { "Export" }
            @if !asked.grant.scope().is_everything() { p { "It holds what you may see, and nothing else." } }
            form.export action=(view.links.to("exports/queue")) method="post" {
                input type="hidden" name="form" value="1";
                // Sent twice, it is one job.
                input type="hidden" name="id" value=(Uuid::now_v7());
                p {
                    label for="export-filter" { "Filter" } " "
                    input #export-filter name="q" value=(filter) spellcheck="false" autocomplete="off" aria-describedby="export-filter-help";
                    span #export-filter-help { " Words such as " code { "table:posts last:24h" } "; without any, everything." }
                }
                p {
                    label for="as" { "Format" } " "
                    select #as name="as" { @for format in Format::ALL.into_iter().filter(|format| format.is_built()) { option value=(format.as_str()) { (format.as_str()) } } }
                    " " label for="profile" { "Holds" } " "
                    select #profile name="profile" {
                        option value="" { "what fits the format" }
                        @for (profile, about) in PROFILES { option value=(profile.as_str()) { (about) } }
                    }
                    " " label { input type="checkbox" name="safe" value="1"; " no cell is a formula of a spreadsheet" }
                }
                p {
                    @if can_queue { button { "Make it in the background" } " " }
                    @if asked.may_do(Capability::Export) {
                        button formaction=(view.links.to("exports/now")) formmethod="get" { "Download now" }
                        " up to " (grouped(now::ENTRIES)) " entries, as csv, ndjson or json"
                    }
                }
            }
            @if !can_queue { p { "This surface was given no folder for exports in the background. The same as a command: " (to_run(&command)) } }
        }
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
