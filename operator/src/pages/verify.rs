//! Compares the newest receipts with the timeline: so many, so long, and not again and again.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use maud::{Markup, html};
use serde::Serialize;
use serde_json::json;
use threadline::receipts::{Trust, Verification, verify_newest};
use uuid::Uuid;

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{View, amount::to_run, copy, facts, text},
};

/// Receipts that are compared.
pub(crate) const RECEIPTS: u32 = 24;

/// How long that may take.
pub(crate) const TIME: Duration = Duration::from_secs(10);

/// How long nobody verifies after somebody has.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Found<'v> {
    holds: bool,
    act: Uuid,
    #[serde(flatten)]
    verification: &'v Verification,
}

pub(crate) async fn run(asked: Asked) -> Answered {
    // Without a connection that may write nothing is done.
    asked.writer()?;
    take_turn(&asked)?;
    let comment = json!({"receipts": RECEIPTS});
    let action = asked.action("audit.verification_requested").verb("verify").comment(comment.to_string());
    let act = asked.act(action).await?.done().await?;
    let timeline = asked.timeline();
    let trust = Trust::nothing();
    let verifying = verify_newest(&timeline, &trust, RECEIPTS, TIME);
    let found = tokio::time::timeout(TIME, verifying).await.map_err(|_| {
        Failure::unusable(
            "took_too_long",
            format!("The newest {RECEIPTS} receipts could not be compared in {} seconds. `threadline receipts verify` has the time.", TIME.as_secs()),
        )
    })??;
    let data = Found { holds: found.holds(), act, verification: &found };
    asked.answer("Verification", &data, |view| shown(view, &found, act))
}

/// At most one in a while.
fn take_turn(asked: &Asked) -> Result<(), Failure> {
    let mut last = asked.shared.verifying.lock().unwrap_or_else(PoisonError::into_inner);
    let left = last.map_or(Duration::ZERO, |last| PAUSE.saturating_sub(last.elapsed()));
    if !left.is_zero() {
        return Err(Failure::TooSoon(left.as_secs() + 1));
    }
    *last = Some(Instant::now());
    Ok(())
}

fn shown(view: &View<'_>, found: &Verification, act: Uuid) -> Markup {
    let faults = &found.faults;
    html! {
        p {
            @if found.receipts == 0 { "There are no receipts yet: " (to_run("threadline receipts seal")) }
            @else if found.holds() { span.status.ok { "holds" } " Everything that was compared is what was sealed." }
            @else { span.status.error { "does not hold" } " Something is not what was sealed." }
        }
        (facts(&[
            ("Receipts", found.numbers.map(|(first, last)| html! { (first) " to " (last) })),
            ("Rows compared", Some(html! { (found.compared.transactions) " transactions, " (found.compared.changes) " changes, " (found.compared.actions) " actions" })),
            ("Purged", (!found.purged.is_empty()).then(|| html! { (found.purged.values().sum::<u64>()) " rows, by runs of retention" })),
            ("Erased", (!found.erased.is_empty()).then(|| html! { (found.erased.values().sum::<u64>()) " values, by erasures" })),
            ("Hash of the last", found.end.as_ref().map(|hash| html! { code { (text::cut(hash, 16)) } " " (copy("hash", hash)) })),
            ("Recorded as", Some(view.id_link("actions", act))),
        ]))
        @if !found.holds() {
            section {
                h2 { "Faults" }
                ul { @for (kind, count) in &faults.counts { li { (kind.term().replace('_', " ")) ": " (count) } } }
                ul { @for fault in &faults.listed { li { (text::cut(&fault.to_string(), 500)) } } }
            }
        }
        p { "Earlier receipts, and rows that are in none, were not looked at: " (to_run("threadline receipts verify")) " does that." }
        p { a href=(view.links.to("evidence")) { "Evidence" } }
    }
}
