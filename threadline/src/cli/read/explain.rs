//! `--explain`: what a question asks the server, and how the server finds the answer.

use std::fmt::Write as _;

use serde::Serialize;
use threadline::query::{ReadError, Statement};

use crate::cli::answer::Failure;

use super::{
    arguments::Format,
    render::{self, put, safe},
    session::Session,
};

#[derive(Serialize)]
struct Explained<'s> {
    statement: &'s str,
    parameters: Vec<String>,
    plan: Vec<String>,
}

/// Prints each statement, its parameters and its plan. Each is run; its rows are thrown away.
pub(super) async fn explain(
    session: &mut Session,
    statements: &[Statement],
    format: Format,
) -> Result<u8, Failure> {
    let pool = session.pool().clone();
    for (number, statement) in statements.iter().enumerate() {
        let plan = session
            .answer(async |_| {
                let mut connection = pool.acquire().await?;
                statement.explain(&mut connection).await.map_err(ReadError::from)
            })
            .await?;
        let explained = Explained { statement: statement.text(), parameters: statement.values(), plan };
        let text = match format {
            Format::Json => render::json(&explained).map_err(anyhow::Error::new)?,
            _ => for_people(&explained, number),
        };
        put(&text)?;
    }
    Ok(0)
}

fn for_people(explained: &Explained<'_>, number: usize) -> String {
    let mut text = if number > 0 { "\n".to_owned() } else { String::new() };
    for line in explained.statement.lines() {
        let _ = writeln!(text, "{}", safe(line.trim()));
    }
    for (number, value) in explained.parameters.iter().enumerate() {
        let _ = writeln!(text, "  ${} = {}", number + 1, safe(value));
    }
    for line in &explained.plan {
        let _ = writeln!(text, "  {}", safe(line));
    }
    text
}
