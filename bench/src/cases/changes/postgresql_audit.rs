//! `PostgreSQL-Audit`, a project for `SQLAlchemy`: its own Python code makes its tables and triggers.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::POSTGRESQL_AUDIT as NAME;
use crate::cases::say;

const PACKAGES: [&str; 2] = ["PostgreSQL-Audit==0.18.0", "psycopg2-binary==2.9.13"];

const SCRIPT: &str = include_str!("set_up_postgresql_audit.py");

/// A Python that has the package, in an environment that stays in `target` for the next run. Says so when there is none.
pub(super) fn python() -> Option<PathBuf> {
    let folder = Path::new("target/postgresql-audit");
    let python = folder.join("bin/python");
    let has_package = || runs(Command::new(&python).args(["-c", "import postgresql_audit, psycopg2"]));
    let installed = has_package()
        || (runs(Command::new("python3").args(["-m", "venv"]).arg(folder))
            && runs(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))
            && has_package());
    if !installed {
        say(&format!("{NAME} cannot be installed here (python3 -m venv, pip): it is left out"));
        return None;
    }
    Some(python)
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Makes its tables and its trigger.
pub(super) fn set_up(python: &Path, url: &str) -> anyhow::Result<()> {
    let output = Command::new(python).args(["-c", SCRIPT, url]).output().context("cannot run Python")?;
    ensure!(output.status.success(), "{NAME}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// As many changes as the others have had.
pub(super) fn history(count: u64) -> String {
    format!(
        "insert into activity (schema_name, table_name, relid, issued_at, native_transaction_id, verb, changed_data)
         select 'public', 'users', 0, now() - interval '1 day', (g / 5 + 1)::text::xid8, 'insert',
                jsonb_build_object('id', g, 'email', 'user@example.test', 'note', 'a note of some words about this row')
         from generate_series(1, {count}) g"
    )
}
