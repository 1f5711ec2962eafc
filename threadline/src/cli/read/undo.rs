//! `threadline undo-plan`: SQL that would set back what a transaction or a change has done. It is printed, and never run.

use std::io::{self, IsTerminal as _};

use threadline::query::{Undo, UndoPlan};
use uuid::Uuid;

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    render::{note, put, safe},
    session::reading,
    write,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The id of a transaction, or of one change.
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Prints JSON: each statement, and what is refused.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    reading(target, async |session| {
        let plan = session
            .answer(async |reader| match reader.undo_plan(Undo::Transaction(arguments.id)).await {
                Err(error) if error.term() == Some("not_found") => {
                    reader.undo_plan(Undo::Change(arguments.id)).await
                }
                planned => planned,
            })
            .await?;
        if arguments.json {
            write::document(&plan)?;
        } else {
            put(&script(&plan))?;
        }
        if !plan.refused.is_empty() {
            note(&format!("{} refused: the script says why", plan.refused.len()));
        }
        Ok(0)
    })
}

/// As it is to be run; on a terminal without what would act there.
fn script(plan: &UndoPlan) -> String {
    let script = plan.to_sql();
    if !io::stdout().is_terminal() {
        return script;
    }
    script.lines().fold(String::new(), |shown, line| shown + &safe(line) + "\n")
}
