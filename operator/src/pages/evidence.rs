//! What was recorded of the audit itself: claims by subject, what they are worth, the history of one, and the receipts over the timeline.

use maud::{Markup, html};
use serde_json::json;
use threadline::{
    evidence::{Claim, ClaimStatus, Document, Evidence, EvidenceRecord, Records, Subject},
    query::Json,
    receipts::{self, Receipt},
};

use super::verify;
use crate::{
    Capability,
    asked::{Answered, Asked},
    failure::Failure,
    view::{
        View,
        amount::{grouped, to_run},
        copy, empty, facts, text,
    },
};

/// Records that are shown.
const RECORDS: u32 = 200;

/// Receipts that are shown.
const RECEIPTS: u32 = 10;

/// What is asked for.
enum Wanted {
    Overview,
    Subject(Subject),
    History(Subject, Document),
}

impl Wanted {
    fn of(asked: &Asked) -> Result<Self, Failure> {
        let refused =
            |refusal: threadline::capture::Refusal| Failure::unusable(refusal.term, refusal.to_string());
        let Some(subject) = asked.query.get("subject") else { return Ok(Self::Overview) };
        let subject = subject.parse().map_err(refused)?;
        let Some(reference) = asked.query.get("ref") else { return Ok(Self::Subject(subject)) };
        Ok(Self::History(subject, reference.parse().map_err(refused)?))
    }
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let wanted = Wanted::of(&asked)?;
    let evidence = Evidence::of(&asked.reader())?;
    let records = match &wanted {
        Wanted::Overview => evidence.list_overview(Some(RECORDS)).await?,
        Wanted::Subject(subject) => evidence.list_latest_subject_refs(*subject, Some(RECORDS)).await?,
        Wanted::History(subject, reference) => {
            evidence.list_subject_ref_history(*subject, reference.clone(), Some(RECORDS)).await?
        }
    };
    let sealed = match &wanted {
        Wanted::Overview => Some(receipts::newest(&asked.timeline(), RECEIPTS).await.map_err(Failure::from)),
        Wanted::Subject(_) | Wanted::History(..) => None,
    };
    let claims: Vec<_> = records
        .records
        .iter()
        .map(|record| {
            let claim = Claim::of(record, false);
            json!({"record": record, "claim": claim.status, "reason": claim.reason})
        })
        .collect();
    let data = json!({
        "records": claims,
        "has_more": records.has_more,
        "receipts": sealed.as_ref().and_then(|sealed| sealed.as_ref().ok()),
        "chain_holds": sealed.as_ref().and_then(|sealed| sealed.as_ref().ok()).map(|sealed| broken(sealed).is_none()),
    });
    asked.answer("Evidence", &data, |view| html! {
        (subjects(view, &wanted))
        @match &wanted {
            Wanted::History(_, reference) => { h2 { "History of " code { (text::cut(reference.text(), 500)) } } }
            Wanted::Overview | Wanted::Subject(_) => {}
        }
        (groups(view, &wanted, &records))
        @if records.has_more { p.more { "There are more: " (to_run("threadline evidence show")) } }
        @match &sealed {
            Some(Ok(receipts)) => (chain(&asked, view, receipts)),
            Some(Err(failure)) => section { h2 { "Receipts" } p { (text::cut(&failure.text(), 500)) } p.term { "Error: " code { (failure.term()) } } },
            None => {}
        }
    })
}

fn subjects(view: &View<'_>, wanted: &Wanted) -> Markup {
    let current = match wanted {
        Wanted::Overview => None,
        Wanted::Subject(subject) | Wanted::History(subject, _) => Some(*subject),
    };
    html! {
        ul.windows aria-label="Subjects" {
            li { a href=(view.links.to("evidence")) aria-current=[current.is_none().then_some("true")] { "All" } }
            @for subject in Subject::ALL {
                li { a href=(view.links.with("evidence", &[("subject", subject.as_str())])) aria-current=[(current == Some(subject)).then_some("true")] { (subject.as_str().replace('_', " ")) } }
            }
        }
    }
}

fn groups(view: &View<'_>, wanted: &Wanted, found: &Records) -> Markup {
    if found.records.is_empty() {
        return empty(
            "No evidence",
            &html! { "Nothing was recorded of this. Exports, purges and seals record themselves; " (to_run("threadline verify-coverage --record")) " and a host's own records say the rest." },
        );
    }
    let mut by_subject: Vec<(&str, Vec<&EvidenceRecord>)> = Vec::new();
    for record in &found.records {
        match by_subject.iter_mut().find(|(subject, _)| *subject == record.subject) {
            Some((_, records)) => records.push(record),
            None => by_subject.push((&record.subject, vec![record])),
        }
    }
    let is_history = matches!(wanted, Wanted::History(..));
    html! {
        @for (subject, records) in by_subject {
            section {
                h2 { (text::line(&subject.replace('_', " "))) }
                table.list {
                    caption.visually-hidden { "Records about " (text::line(subject)) }
                    thead { tr { th scope="col" { "About" } th scope="col" { "Says" } th scope="col" { "Worth" } th scope="col" { "Recorded" } th scope="col" { "By" } th scope="col" { "Detail" } } }
                    tbody { @for record in records { (row(view, record, is_history)) } }
                }
            }
        }
    }
}

fn row(view: &View<'_>, record: &EvidenceRecord, is_history: bool) -> Markup {
    let claim = Claim::of(record, false);
    let (word, class) = match claim.status {
        ClaimStatus::Proven => ("proven", "status ok"),
        ClaimStatus::InferredPosture => ("inferred", "status"),
        ClaimStatus::Unsupported => ("unsupported", "status error"),
    };
    let reference = record.subject_ref.get();
    html! {
        tr {
            th scope="row" {
                @if is_history { code { (text::cut(reference, 200)) } } @else {
                    a href=(view.links.with("evidence", &[("subject", &record.subject), ("ref", reference)])) { code { (text::cut(reference, 200)) } }
                }
            }
            td data-name="Says" { (text::line(&record.summary_status)) }
            td data-name="Worth" { span class=(class) { (word) } @if let Some(reason) = &claim.reason { " " (text::line(&reason.replace('_', " "))) } }
            td data-name="Recorded" { (view.time(record.recorded_at)) }
            td data-name="By" { (by(view, record.actor_ref.as_ref())) @if record.is_machine_made { " " span.status { "seen by the program" } } }
            td data-name="Detail" { details { summary { "Detail" } code { (text::cut(record.detail.get(), 4_000)) } } }
        }
    }
}

fn by(view: &View<'_>, actor: Option<&Json>) -> Markup {
    actor.map_or_else(|| html! { span.none { "nobody named" } }, |actor| view.actor(Some(actor)))
}

/// The first of these receipts, the newest first, that does not follow the one before it.
fn broken(receipts: &[Receipt]) -> Option<i64> {
    let follows = |newer: &Receipt, older: &Receipt| {
        newer.n == older.n + 1
            && newer.previous == older.hash
            && newer.position_before.as_ref() == Some(&older.position)
    };
    receipts.windows(2).find(|pair| !follows(&pair[0], &pair[1])).map(|pair| pair[0].n)
}

fn chain(asked: &Asked, view: &View<'_>, receipts: &[Receipt]) -> Markup {
    html! {
        section {
            h2 { "Receipts" }
            @match receipts.first() {
                None => (empty("Not sealed", &html! { "No receipt was written yet: " (to_run("threadline receipts seal")) " writes the first one, which takes everything that is there." })),
                Some(newest) => {
                    (facts(&[
                        ("Sealed until", Some(view.age(newest.until))),
                        ("Its hash", Some(html! { code { (text::cut(&newest.hash, 16)) } " " (copy("hash", &newest.hash)) })),
                        ("Chain", Some(match broken(receipts) {
                            None => html! { span.status.ok { "follows" } " " (receipts.len()) " receipts, each the one before it" },
                            Some(n) => html! { span.status.error { "broken" } " receipt " (n) " does not follow the one before it" },
                        })),
                    ]))
                    table.list {
                        caption { "The newest receipts" }
                        thead { tr { th scope="col" { "Number" } th scope="col" { "Until" } th scope="col" { "Transactions" } th scope="col" { "Changes" } th scope="col" { "Actions" } th scope="col" { "Hash" } th scope="col" { "Signed" } } }
                        tbody { @for receipt in receipts { tr {
                            th scope="row" { (receipt.n) }
                            td data-name="Until" { (view.time(receipt.until)) }
                            td data-name="Transactions" { (grouped(receipt.transactions)) }
                            td data-name="Changes" { (grouped(receipt.changes)) }
                            td data-name="Actions" { (grouped(receipt.actions)) }
                            td data-name="Hash" { code { (text::cut(&receipt.hash, 16)) } }
                            td data-name="Signed" { @if receipt.signature.is_some() { "yes" } @else { "no" } }
                        } } }
                    }
                }
            }
            h3 { "To verify" }
            @if asked.may_do(Capability::Verify) {
                form action=(view.links.to("evidence/verify")) method="post" {
                    p { "The newest " (verify::RECEIPTS) " receipts are compared with the timeline, row by row, for at most " (verify::TIME.as_secs()) " seconds. " button { "Verify now" } }
                }
            }
            p { "All of them: " (to_run("threadline receipts verify")) }
            p { "For somebody who has no server: " (to_run("threadline receipts bundle --output receipts.ndjson")) " writes receipts with their rows, and "
                (to_run("threadline receipts verify-bundle receipts.ndjson")) " verifies them." }
        }
    }
}
