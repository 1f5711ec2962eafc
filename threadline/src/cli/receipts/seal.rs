//! `threadline receipts seal`: once, or again and again until a signal comes.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use threadline::{
    Timeline,
    receipts::{KeyChange, Receipt, ReceiptError, Sealed, seal_as},
    signing::SigningKey,
};

use super::{
    session::{Access, failed, on_timeline, progress, unless_interrupted},
    words,
};
use crate::cli::{
    answer::{Answer, Failure},
    database::Interrupt,
    read::{json_line, note, put, safe},
    settings::{Settings, Target},
};

/// The shortest interval.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A PKCS#8 file with the Ed25519 key that signs; without it `receipts.key` of the settings file, and without that nothing is signed.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Signs nothing, although the last receipt is signed: from then on the chain does not verify with a public key.
    #[arg(long, conflicts_with_all = ["key", "new_key"])]
    unsigned: bool,
    /// Goes on with another key than the last receipt's: from then on the public halves of both are given to verification.
    #[arg(long)]
    new_key: bool,
    /// Goes on, and seals at this interval, such as 5m, until SIGTERM or Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = every)]
    every: Option<Duration>,
    /// Prints the receipt as JSON, on a line.
    #[arg(long)]
    json: bool,
}

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if every < EVERY_MIN { Err("expected at least 1s".to_owned()) } else { Ok(every) }
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let settings = Settings::read(target)?;
    let key = arguments.key.clone().or_else(|| settings.receipts.key.clone()).filter(|_| !arguments.unsigned);
    if arguments.new_key && key.is_none() {
        let why = "--new-key needs a key: say --key FILE, or receipts.key of the settings file";
        return Err(Failure::Misused(why.to_owned()));
    }
    let is_meant = arguments.unsigned || arguments.new_key;
    let change = if is_meant { KeyChange::Meant } else { KeyChange::Refused };
    let key = key.map(|path| SigningKey::read(&path)).transpose();
    let key = key.map_err(|error| Failure::Misused(safe(&error.to_string())))?;
    on_timeline(settings, Access::ReadWrite, async |timeline, interrupt| {
        if let Some(every) = arguments.every {
            return go_on(timeline, (key.as_ref(), change), every, arguments.json, interrupt).await;
        }
        let (bar, progress) = progress("rows");
        let sealed = seal_as(timeline, key.as_ref(), change, progress);
        let sealed = async { sealed.await.map_err(with_option) };
        let sealed = Box::pin(unless_interrupted(sealed, interrupt)).await;
        bar.finish_and_clear();
        Ok(text(&sealed?, arguments.json)?.into())
    })
}

/// Seals again and again. A database that is away, or somebody else who seals, is no reason to end; what was committed meanwhile is in the next
/// receipt.
async fn go_on(
    timeline: &Timeline,
    (key, change): (Option<&SigningKey>, KeyChange),
    every: Duration,
    json: bool,
    interrupt: &mut Interrupt,
) -> Result<Answer, Failure> {
    loop {
        let sealed = tokio::select! {
            sealed = seal_as(timeline, key, change, |_| {}) => sealed.map_err(with_option),
            () = interrupt.come() => break,
        };
        match sealed {
            Ok(sealed) => put(&text(&sealed, json)?)?,
            Err(error @ ReceiptError::Database(_)) => note(&format!("error: {}", errors::line(&error))),
            Err(error) if error.term() == Some("sealed_elsewhere") => {
                note(&format!("sealed_elsewhere: {error}"));
            }
            Err(error) => return Err(failed(&error)),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = interrupt.come() => break,
        }
    }
    Ok(String::new().into())
}

/// A refusal with what the command line says where it is meant.
fn with_option(error: ReceiptError) -> ReceiptError {
    let ReceiptError::Refused { term, reason } = error else { return error };
    let reason = match term {
        "receipt_unsigned" => format!("{reason}; give --key, or say --unsigned if that is meant"),
        "receipt_key_changed" => format!("{reason}; give that key, or say --new-key if that is meant"),
        _ => reason,
    };
    ReceiptError::Refused { term, reason }
}

fn text(sealed: &Sealed, json: bool) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Members<'s> {
        #[serde(flatten)]
        receipt: &'s Receipt,
        /// The receipt before is of another database.
        is_elsewhere: bool,
    }
    let Sealed { receipt, is_elsewhere, .. } = sealed;
    if json {
        let members = Members { receipt, is_elsewhere: *is_elsewhere };
        return Ok(json_line(&members).map_err(anyhow::Error::new)?);
    }
    let elsewhere = if *is_elsewhere {
        safe(&format!(
            "the receipt before is of another database than {}: it was restored or renamed, and what no receipt had taken is in this one",
            receipt.database
        )) + "\n"
    } else {
        String::new()
    };
    Ok(elsewhere + &words::receipt(receipt))
}
