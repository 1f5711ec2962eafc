//! The commands that read the timeline, as a person or a script runs them.

mod endings;
mod explained;
mod hostile;
mod lists;
mod rows;
mod serve;
mod transactions;

use std::{path::PathBuf, process::Command};

use sandbox::fixture::{TestDatabase, timeline_database};
use sqlx::{Executor as _, PgConnection};

/// How it ended, and what it printed.
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

const TIMELINE: &str = include_str!("timeline.sql");

/// A database with a timeline, after this SQL.
async fn timeline(sql: &'static str) -> anyhow::Result<(TestDatabase, PgConnection)> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    connection.execute(sql).await?;
    Ok((database, connection))
}

/// The command, in a folder without a settings file.
fn command(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG");
    command
}

fn threadline(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Ended> {
    let ran = command(database, arguments).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

/// That commands answer what the file says, one after another, in every byte and with their exit statuses. `UPDATE_ANSWERS=1` writes
/// the file; the difference is to be read then.
fn assert_answers(database: &TestDatabase, file: &str, commands: &[&[&str]]) -> anyhow::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/query/commands/answers").join(file);
    let mut answers = String::new();
    for arguments in commands {
        let ended = threadline(database, arguments)?;
        let quoted =
            |word: &&str| if word.contains([' ', '{']) { format!("'{word}'") } else { (*word).to_owned() };
        let line = arguments.iter().map(quoted).collect::<Vec<_>>().join(" ");
        answers += &("$ threadline ".to_owned() + &line + "\n" + &ended.out);
        answers = ended.error.lines().fold(answers, |answers, line| answers + "stderr: " + line + "\n");
        answers += &("status ".to_owned() + &ended.status.unwrap_or(-1).to_string() + "\n\n");
    }
    if std::env::var_os("UPDATE_ANSWERS").is_some() {
        std::fs::write(&path, &answers)?;
    }
    assert_eq!(answers, std::fs::read_to_string(&path)?, "{}", path.display());
    Ok(())
}
