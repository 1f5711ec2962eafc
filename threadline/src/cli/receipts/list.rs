//! `threadline receipts list`.

use threadline::receipts::newest;

use super::{
    session::{Access, on_timeline, unless_interrupted},
    words,
};
use crate::cli::{
    answer::{Answer, Failure},
    read::json_line,
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Receipts at most.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Prints JSON: an object on a line for each receipt.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    on_timeline(Settings::read(target)?, Access::ReadOnly, async |timeline, interrupt| {
        let receipts = unless_interrupted(newest(timeline, arguments.limit), interrupt).await?;
        if arguments.json {
            let lines = receipts.iter().map(json_line).collect::<Result<Vec<_>, _>>();
            return Ok(lines.map_err(anyhow::Error::new)?.concat().into());
        }
        Ok(receipts.iter().map(words::receipt).collect::<String>().into())
    })
}
