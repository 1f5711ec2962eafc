//! `threadline evidence record`.

use threadline::{
    ActorRef,
    evidence::{Document, Record, Subject},
};

use crate::cli::{
    answer::{Answer, Failure},
    capture::actor,
    database::{Rights, on_timeline},
    read::render,
    settings::{Settings, Target},
};

use super::{argument, refused};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What it is about: `redaction_policy`, `trigger_coverage`, `retention_run`, `retention_policy`, `export_delivery` or
    /// `support_scope_posture`.
    #[arg(value_name = "SUBJECT", value_parser = argument::<Subject>)]
    subject: Subject,
    /// Which one, as a JSON object, such as '{"schema": "public"}'.
    #[arg(long, value_name = "JSON", value_parser = argument::<Document>)]
    subject_ref_json: Document,
    /// What is so, in a word, such as ok.
    #[arg(long, value_name = "TEXT")]
    status: String,
    /// What else is so, as a JSON object. Its member `claim_assessment` says what the claim is worth.
    #[arg(long, value_name = "JSON", value_parser = argument::<Document>)]
    detail_json: Option<Document>,
    /// Who says so, such as admin:a1; the types are user, admin, `service_account`, job and system.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
    /// Prints the record as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(target: Target, arguments: Arguments) -> Result<Answer, Failure> {
    let Arguments { subject, subject_ref_json, status, detail_json, actor, json } = arguments;
    let mut record = Record::new(subject, subject_ref_json, status);
    if let Some(detail) = detail_json {
        record = record.detail(detail);
    }
    if let Some(actor) = actor {
        record = record.actor(actor);
    }
    let Settings { options, schema, .. } = Settings::read(target)?;
    on_timeline(&options, Rights::Owner, async |connection| {
        let recorded = record.record(connection, &schema).await.map_err(refused)?;
        Ok(if json { render::json(&recorded)? } else { format!("recorded {} as {}\n", subject, recorded.id) })
    })
}
