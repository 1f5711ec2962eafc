//! A database restored from a dump, as after a disaster.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{Postgres, Private};
use crate::process::{self, reap};

impl Postgres {
    /// Runs a file with psql; returns its exit status and what it printed.
    ///
    /// # Errors
    /// When this server is not ours, or `psql` is not installed.
    pub fn psql(&self, url: &str, file: &Path) -> anyhow::Result<(Option<i32>, String)> {
        let private =
            self.private.as_ref().context("only a server of this sandbox has a psql of its version")?;
        let output = process::complete(private.psql(url).arg("--file").arg(file))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Creates the database `name` here from a dump of the one at `url`, which may be on another server; the roles that it
    /// grants something to come along. Returns its URL.
    ///
    /// # Errors
    /// When this server is not ours, `pg_dump`, `pg_dumpall` or `psql` is not installed, or one of them fails.
    pub async fn restore(&self, url: &str, name: &str) -> anyhow::Result<String> {
        let private = self.private.as_ref().context("only a server of this sandbox restores")?;
        let target = self.create_database(name, None).await?;
        let program = |name: &str| Command::new(private.bin.join(name));
        let psql = |target: &str| private.psql(target);
        let mut roles = program("pg_dumpall");
        roles.args(["--roles-only", "--dbname", url]);
        // Some are here already, the owner at least: that is no failure, and not worth a word.
        let mut created = psql(&target);
        created.stderr(Stdio::null());
        ensure!(pipe(roles, created)?, "the roles could not be copied");
        let mut dump = program("pg_dump");
        dump.args(["--dbname", url]);
        let mut restored = psql(&target);
        restored.args(["--set=ON_ERROR_STOP=1", "--single-transaction"]);
        ensure!(pipe(dump, restored)?, "the database could not be dumped or restored");
        Ok(target)
    }
}

impl Private {
    fn psql(&self, target: &str) -> Command {
        let mut psql = Command::new(super::client(&self.bin, "psql"));
        psql.args(["--quiet", "--no-psqlrc", "--dbname", target]);
        psql
    }
}

/// Whether both succeeded.
fn pipe(mut from: Command, mut to: Command) -> anyhow::Result<bool> {
    let start = |command: &Command| format!("cannot start {}", command.get_program().display());
    let mut writer = from.stdout(Stdio::piped()).spawn().with_context(|| start(&from))?;
    let output = writer.stdout.take().context("it has an output")?;
    let read = to.stdin(output).stdout(Stdio::null()).status().with_context(|| start(&to))?;
    Ok(reap(&mut writer)?.success() && read.success())
}
