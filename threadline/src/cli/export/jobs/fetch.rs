//! `threadline export jobs fetch`.

use std::path::PathBuf;

use indicatif::{HumanBytes, HumanCount};
use threadline::export::jobs;
use uuid::Uuid;

use super::timeline::{on_timeline, unless_interrupted};
use crate::cli::{
    answer::{Answer, Failure},
    read::{json_line, safe},
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The id of a completed job.
    #[arg(value_name = "JOB")]
    job: Uuid,
    /// The file; its manifest and signature are written beside it.
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Takes the place of a file that is there.
    #[arg(long)]
    force: bool,
    /// Prints the summary as one object of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    on_timeline(Settings::read(target)?, async |timeline, section, interrupt| {
        let settings = section.storage.settings();
        let fetched = jobs::fetch(timeline, arguments.job, &settings, &arguments.output, arguments.force);
        let fetched = unless_interrupted(fetched, interrupt).await?;
        if arguments.json {
            return Ok(json_line(&fetched).map_err(anyhow::Error::new)?.into());
        }
        let (rows, bytes) = (HumanCount(fetched.rows), HumanBytes(fetched.bytes));
        let [file, manifest] = [&fetched.file, &fetched.manifest].map(|path| safe(&path.to_string_lossy()));
        let digest = fetched.sha256;
        Ok(format!("fetched and verified: {rows} rows, {bytes}\nfile       {file}\nmanifest   {manifest}\nsha256     {digest}\n").into())
    })
}
