//! A database restored from a dump, as after a disaster.

use std::process::Stdio;

use anyhow::{Context as _, ensure};

use super::Postgres;

impl Postgres {
    /// Creates the database `name` here from a dump of the one at `url`, which may be on another server. Answers its
    /// URL.
    ///
    /// # Errors
    /// When this server is not ours, `pg_dump` or `psql` is not installed, or one of them fails.
    pub async fn restore(&self, url: &str, name: &str) -> anyhow::Result<String> {
        let private = self.private.as_ref().context("only a server of this sandbox restores")?;
        let target = self.create_database(name, None).await?;
        let mut dump = std::process::Command::new(private.bin.join("pg_dump"))
            .args(["--dbname", url])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start pg_dump")?;
        let output = dump.stdout.take().context("pg_dump has an output")?;
        let restored = std::process::Command::new(private.bin.join("psql"))
            .args([
                "--quiet",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                "--single-transaction",
                "--dbname",
                &target,
            ])
            .stdin(output)
            .stdout(Stdio::null())
            .status()
            .context("cannot start psql")?;
        ensure!(dump.wait()?.success() && restored.success(), "the database could not be dumped or restored");
        Ok(target)
    }
}
