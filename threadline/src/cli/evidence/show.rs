//! `threadline evidence show`.

use std::collections::BTreeMap;

use threadline::{
    evidence::{Claim, Document, Evidence, EvidenceRecord, LIMIT_MAX, Mode, Proof, ProofRequest, Subject},
    query::{Instant, Json, time_text},
};

use crate::cli::{
    answer::{Answer, Failure},
    read::{
        arguments::{Form, Format},
        render::{self, Column, Table, Tabs, note, put, safe},
        session::reading,
        write,
    },
    settings::Target,
    times,
};

use super::argument;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// About what; without it, about everything.
    #[arg(long, value_name = "SUBJECT", value_parser = argument::<Subject>)]
    subject: Option<Subject>,
    /// About which one, as a JSON object: the whole reference, whatever the order of its members.
    #[arg(long, value_name = "JSON", requires = "subject", value_parser = argument::<Document>)]
    subject_ref_json: Option<Document>,
    /// The newest record about each; what is shown without --history, --from and --to.
    #[arg(long, conflicts_with_all = ["history", "from", "to"])]
    latest: bool,
    /// All records.
    #[arg(long)]
    history: bool,
    /// The first time of a history.
    #[arg(long, value_name = "TIME", value_parser = times::at::<Instant>)]
    from: Option<Instant>,
    /// The last time of a history.
    #[arg(long, value_name = "TIME", value_parser = times::end)]
    to: Option<Instant>,
    /// Records at most; without it 1,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: Option<u32>,
    /// Takes what a host claims without saying how much it is worth for what is meant to be so, and not for proven.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let format = arguments.form.format();
    let request = arguments.request();
    reading(target, async |session| {
        let proof = session.answer(async |reader| Evidence::of(reader)?.proof(&request).await).await?;
        match format {
            Format::Json => write::document(&proof)?,
            Format::Tabs => write::tabs(&Tabs(COLUMNS), &shown(&proof))?,
            Format::Human => put(&text(&proof))?,
        }
        if proof.has_more {
            note(&format!(
                "there are more than these {}: --limit, --from and --to show others",
                proof.records.len()
            ));
        }
        Ok(0)
    })
}

impl Arguments {
    fn request(&self) -> ProofRequest {
        let Self { subject, subject_ref_json, history, from, to, limit, strict, .. } = self;
        let is_history = *history || from.is_some() || to.is_some();
        ProofRequest {
            subject: *subject,
            subject_ref: subject_ref_json.clone(),
            mode: if is_history { Mode::History } else { Mode::Latest },
            from: *from,
            to: *to,
            limit: *limit,
            strict: *strict,
        }
    }
}

/// A record, and what it is worth.
struct Shown {
    record: EvidenceRecord,
    claim: Claim,
}

fn shown(proof: &Proof) -> Vec<Shown> {
    let shown =
        |record: &EvidenceRecord| Shown { claim: Claim::of(record, proof.strict), record: record.clone() };
    proof.records.iter().map(shown).collect()
}

const COLUMNS: &[Column<Shown>] = &[
    ("id", |s| Some(s.record.id.to_string())),
    ("subject", |s| Some(s.record.subject.clone())),
    ("subject_ref", |s| Some(s.record.subject_ref.get().to_owned())),
    ("summary_status", |s| Some(s.record.summary_status.clone())),
    ("recorded_at", |s| Some(time_text(s.record.recorded_at))),
    ("actor_ref", |s| render::document(s.record.actor_ref.as_deref())),
    ("provenance", |s| Some(s.record.provenance.get().to_owned())),
    ("detail", |s| Some(s.record.detail.get().to_owned())),
    ("schema_version", |s| Some(s.record.schema_version.to_string())),
    ("inserted_at", |s| Some(time_text(s.record.inserted_at))),
    ("machine_made", |s| Some(s.record.is_machine_made.to_string())),
    ("claim", |s| Some(s.claim.status.as_str().to_owned())),
    ("claim_reason", |s| s.claim.reason.clone()),
];

/// The members of an object, or what is none.
fn members(document: &Json) -> String {
    if document.get().starts_with('{') {
        render::image(document, &BTreeMap::new())
    } else {
        document.get().to_owned()
    }
}

fn text(proof: &Proof) -> String {
    let assessment = &proof.claim_assessment;
    let reason = assessment.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let heading = format!(
        "{} ({}){reason}; records: {}, subjects: {}",
        assessment.status.as_str(),
        assessment.kind,
        proof.summary.record_count,
        proof.summary.subject_count
    );
    let mut table = Table::new(&["TIME", "SUBJECT", "STATUS", "CLAIM", "MADE BY", "WHO", "REF", "DETAIL"]);
    for Shown { record, claim } in shown(proof) {
        table.push([
            render::time(record.recorded_at),
            record.subject,
            record.summary_status,
            claim.status.as_str().to_owned(),
            if record.is_machine_made { "threadline" } else { "host" }.to_owned(),
            render::actor(record.actor_ref.as_deref()),
            members(&record.subject_ref),
            members(&record.detail),
        ]);
    }
    safe(&heading) + "\n" + &table.text(render::width())
}
