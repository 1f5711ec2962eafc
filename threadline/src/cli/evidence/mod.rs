//! `threadline evidence`: what was claimed of the audit itself, and claims of a host that has no library of this project's.

mod observed;
mod record;
mod show;

use std::{path::Path, str::FromStr};

use threadline::{capture::Refusal, evidence::EvidenceError};

use super::{
    answer::{Answer, Failure},
    settings::Target,
};

pub(super) use observed::record_all;

/// What is done with evidence.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Shows what was recorded, and what it is worth; a viewer, and no gate: what was found does not change the exit status.
    Show {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: show::Arguments,
    },
    /// Records a claim of the host's.
    Record {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: record::Arguments,
    },
}

impl EvidenceCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        let (Self::Show { target, .. } | Self::Record { target, .. }) = self;
        target.config.as_deref()
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Show { target, arguments } => show::run(target, &arguments),
            Self::Record { target, arguments } => record::run(target, arguments),
        }
    }
}

/// An argument, with the term of why it is none.
fn argument<T: FromStr<Err = Refusal>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|refusal: Refusal| format!("{}: {refusal}", refusal.term))
}

/// What is wrong with a record is the caller's; else it is said what could not be done.
fn refused(error: EvidenceError) -> anyhow::Error {
    match error {
        EvidenceError::Refused(refusal) => refusal.into(),
        error => anyhow::Error::new(error).context(
            "cannot record the evidence: the role needs insert and select on threadline_evidence_records, which `threadline install` makes",
        ),
    }
}
