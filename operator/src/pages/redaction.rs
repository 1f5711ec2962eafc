//! What is hidden of captured rows: as the host has configured it, and as it is deployed. No value of a row is read for it.

use maud::{Markup, html};
use serde_json::json;
use threadline::{
    capture::Policy,
    coverage::{PolicyStatus, policy_status::Status},
};

use super::coverage::{compared, observe};
use crate::{
    asked::{Answered, Asked},
    view::{amount::to_run, empty, facts, text},
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let reading = observe(&asked).await?;
    let wanted = asked.query.get("table");
    let shown: Vec<&PolicyStatus> = reading
        .value
        .policies
        .iter()
        .filter(|one| wanted.is_none_or(|wanted| one.table.to_string() == wanted || one.table.name == wanted))
        .collect();
    let is_configured =
        asked.shared.policies.as_ref().is_some_and(|host| !host.expectations.policies.is_empty());
    let data = json!({
        "looked_at": threadline::query::time_text(reading.at),
        "configured": is_configured,
        "tables": shown,
    });
    asked.answer("Redaction", &data, |view| html! {
        (view.read(&reading))
        @if !is_configured { p { "This surface was not told what is configured: what is deployed is shown alone." } }
        @if wanted.is_some() { p { a href=(view.links.to("policy/redaction")) { "All tables" } } }
        @if shown.is_empty() {
            (empty("No policies", &html! { "No table is captured here, or none of this name. " a href=(view.links.to("coverage")) { "Coverage" } " says which there are." }))
        }
        @for status in shown { (table(status)) }
        section {
            h2 { "To change it" }
            p { "Policies are code: they are set in the settings, and deployed with the triggers. " (to_run("threadline policy show")) " shows this page in a terminal." }
            p { "What is in the timeline already is erased by " code { "threadline erase" } "." }
        }
    })
}

fn table(status: &PolicyStatus) -> Markup {
    let (configured, deployed) = (status.configured.as_ref(), status.deployed.as_ref());
    let class = match status.status {
        Status::ConfigMatchesDeployed if configured.is_some() => "status ok",
        Status::ConfigMatchesDeployed => "status",
        Status::DriftDetected | Status::CouldNotIntrospect => "status error",
    };
    let word = compared(status.status, configured.is_some());
    html! {
        section.policy {
            h2 { (text::line(&text::table_name(&status.table.schema, &status.table.name))) " " span class=(class) { (word) } }
            (facts(&[
                ("What is wrong", status.warning.as_ref().map(|warning| text::cut(warning, 1_000))),
                ("What to do", status.hint.as_ref().map(|hint| to_run(hint))),
            ]))
            @if configured.is_some() || deployed.is_some() {
                table {
                    caption.visually-hidden { "Its policy" }
                    thead { tr { th scope="col" { "Option" } th scope="col" { "Configured" } th scope="col" { "Deployed" } } }
                    tbody {
                        @for (option, read) in OPTIONS {
                            @let (one, other) = (configured.map(read), deployed.map(read));
                            @if [&one, &other].into_iter().flatten().any(|said| !said.is_empty()) {
                                tr {
                                    th scope="row" { (option) @if one.is_some() && other.is_some() && one != other { " " span.status.error { "differs" } } }
                                    td data-name="Configured" { (said(one.as_ref())) }
                                    td data-name="Deployed" { (said(other.as_ref())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An option, and what a policy says of it.
type Extract = fn(&Policy) -> Vec<String>;

const OPTIONS: [(&str, Extract); 9] = [
    ("Not stored", |policy| policy.exclude.clone()),
    ("Masked", |policy| policy.mask.clone()),
    ("Placeholder", |policy| {
        let is_used = !(policy.mask.is_empty() && policy.paths.is_empty());
        is_used.then(|| policy.mask_placeholder.clone()).into_iter().collect()
    }),
    ("Hashed", |policy| policy.hash.clone()),
    ("Key of hashes", |policy| {
        (!policy.hash.is_empty()).then(|| policy.hash_key.clone()).into_iter().collect()
    }),
    ("Masked in documents", |policy| policy.paths.iter().map(|path| path.join(".")).collect()),
    ("Stored, and no change by itself", |policy| policy.except.clone()),
    ("Values before an update", |policy| {
        vec![if policy.store_changed_from { "stored" } else { "not stored" }.to_owned()]
    }),
    ("Changes without an actor", |policy| vec![if policy.strict { "refused" } else { "taken" }.to_owned()]),
];

fn said(said: Option<&Vec<String>>) -> Markup {
    match said {
        None => html! { span.none { "not known" } },
        Some(names) if names.is_empty() => html! { span.none { "nothing" } },
        Some(names) => {
            html! { @for (number, name) in names.iter().enumerate() { @if number > 0 { ", " } (text::line(name)) } }
        }
    }
}
