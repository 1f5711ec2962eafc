//! `threadline receipts verify` and `verify-bundle`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;
use threadline::{
    receipts::{ReceiptError, Trust, Verification, verify, verify_bundle},
    signing::{hash, public_key},
};

use super::{
    session::{Access, failed, on_timeline, progress, unless_interrupted},
    words,
};
use crate::cli::{
    answer::{Answer, Failure},
    read::{json_line, safe},
    settings::{Settings, Target},
};

/// What names standard input.
const STANDARD_INPUT: &str = "-";

/// Bytes that are read at a time.
const READ: usize = 256 << 10;

/// What somebody knows besides the receipts.
#[derive(Debug, clap::Args)]
pub(crate) struct Known {
    /// A public key that may have signed: 64 hexadecimal digits, or a file in PEM form; may be repeated. Without any a receipt's own key
    /// counts, and signatures say nothing of who wrote the receipts.
    #[arg(long, value_name = "HEX|FILE")]
    public_key: Vec<String>,
    /// The hash of a receipt that has to be there, as it was kept elsewhere.
    #[arg(long, value_name = "HASH", value_parser = hash)]
    kept: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    known: Known,
}

/// The same of a bundle.
#[derive(Debug, clap::Args)]
pub(crate) struct OfBundle {
    /// The bundle; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    known: Known,
}

impl Known {
    fn trust(&self) -> Result<Trust, Failure> {
        let keys = self.public_key.iter().map(|given| public_key(given)).collect::<Result<_, _>>();
        let keys = keys.map_err(|error| Failure::Misused(safe(&error.to_string())))?;
        Ok(Trust::nothing().keys(keys).kept(self.kept.clone()))
    }

    fn answer(&self, found: &Verification) -> Result<Answer, Failure> {
        #[derive(Serialize)]
        struct Members<'v> {
            holds: bool,
            #[serde(flatten)]
            found: &'v Verification,
        }
        let holds = found.holds();
        let text = if self.json {
            json_line(&Members { holds, found }).map_err(anyhow::Error::new)?
        } else {
            words::verification(found)
        };
        Ok(Answer { text, status: u8::from(!holds) })
    }
}

pub(crate) fn run(target: Target, Arguments { known }: &Arguments) -> Result<Answer, Failure> {
    let trust = known.trust()?;
    on_timeline(Settings::read(target)?, Access::ReadOnly, async |timeline, interrupt| {
        let (bar, progress) = progress("rows");
        let found = unless_interrupted(verify(timeline, &trust, progress), interrupt).await;
        bar.finish_and_clear();
        known.answer(&found?)
    })
}

pub(crate) fn run_of_bundle(OfBundle { file, known }: &OfBundle) -> Result<Answer, Failure> {
    let trust = known.trust()?;
    let unread = |error: io::Error| {
        let path = file.display().to_string();
        failed(&ReceiptError::File("read", io::Error::new(error.kind(), format!("{path}: {error}"))))
    };
    let reader: Box<dyn BufRead> = if file == Path::new(STANDARD_INPUT) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(READ, File::open(file).map_err(unread)?))
    };
    let (bar, progress) = progress("lines");
    let found = verify_bundle(reader, &trust, progress);
    bar.finish_and_clear();
    known.answer(&found.map_err(unread)?)
}
