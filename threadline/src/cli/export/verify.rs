//! `threadline export verify`: whether an exported file is what its manifest says.

use std::{fmt::Write as _, path::PathBuf};

use indicatif::{HumanBytes, HumanCount};
use threadline::{
    export::{Fault, Verified, verify},
    signing::public_key,
};

use crate::cli::{
    answer::{Answer, Failure},
    read::safe,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The manifest, such as posts.csv.manifest.json. What it names is beside it, or has its name without .manifest.json.
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// The only public key that may have signed the manifest: 64 hexadecimal digits, or a file in PEM form.
    #[arg(long, value_name = "HEX|FILE")]
    public_key: Option<String>,
    /// The exported file, where it is not beside the manifest under the name that this gives.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let key = arguments.public_key.as_deref().map(public_key).transpose();
    let key = key.map_err(|error| Failure::Misused(safe(&error.to_string())))?;
    Ok(match verify(&arguments.manifest, arguments.file.as_deref(), key.as_deref()) {
        Ok(verified) => holds(&verified).into(),
        Err(faults) => Answer { text: faulty(&faults), status: 1 },
    })
}

fn holds(verified: &Verified) -> String {
    let Verified { rows, bytes, parts, key, .. } = verified;
    let signed = key.as_ref().map_or_else(|| "not signed".to_owned(), |key| format!("signed with {key}"));
    let (rows, bytes) = (HumanCount(*rows), HumanBytes(*bytes));
    let parts = if *parts == 1 { "1 part".to_owned() } else { format!("{parts} parts") };
    safe(&format!("holds: {rows} rows, {bytes}, {parts}, {signed}")) + "\n"
}

fn faulty(faults: &[Fault]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = writeln!(text, "fault: {}", safe(&fault.to_string()));
        text
    })
}
