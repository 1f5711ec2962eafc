//! Which binaries a sample runs: those beside this one, or those of an earlier commit of this project, built here.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use sandbox::{audit, process};
use sqlx::{Connection as _, PgConnection};

use crate::environment::Environment;

/// What the names of variants begin with that an earlier commit ran.
pub(crate) const EARLIER: &str = "build ";

/// Binaries, and the databases that they have installed themselves.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    variant: String,
    /// Where the binaries are; none for those beside this one.
    folder: Option<PathBuf>,
    /// What the names of databases begin with that samples are copied from.
    prefix: &'static str,
}

impl Build {
    /// The binaries beside this one.
    pub(crate) fn current() -> Self {
        Self { variant: "pipeline".to_owned(), folder: None, prefix: "" }
    }

    /// Checks a commit out below `target/` and builds it there, with its own lock file; what is there already is up to date.
    ///
    /// # Errors
    /// When there is no such commit, or it does not compile.
    pub(crate) fn of_revision(revision: &str) -> anyhow::Result<Self> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(&root).args(arguments);
            git
        };
        let commit = format!("{revision}^{{commit}}");
        let found = process::complete(&mut git(&["rev-parse", "--verify", "--short=7", &commit]))?;
        ensure!(found.status.success(), "--against {revision}: there is no such commit in this repository");
        let short = String::from_utf8(found.stdout)?.trim().to_owned();
        let folder = root.join("target/against").join(&short);
        if !folder.join("Cargo.toml").is_file() {
            std::fs::create_dir_all(&folder)?;
            let script = "git -C \"$0\" archive \"$1\" | tar -x -C \"$2\"";
            let status = Command::new("sh")
                .args(["-c", script])
                .arg(&root)
                .arg(&short)
                .arg(&folder)
                .status()
                .context("sh")?;
            ensure!(status.success(), "cannot check {short} out into {}", folder.display());
        }
        crate::cases::say(&format!("building {short}"));
        let status = Command::new("cargo")
            .args(["build", "--release", "--locked", "--bins"])
            .args(["--package", "publisher", "--package", "consumer", "--package", "threadline"])
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .status()
            .context("cargo")?;
        ensure!(status.success(), "{short} cannot be built in {}", folder.display());
        Ok(Self {
            variant: format!("{EARLIER}{short}"),
            folder: Some(folder.join("target/release")),
            prefix: "earlier_",
        })
    }

    /// Whether it is of an earlier commit.
    pub(crate) fn is_earlier(&self) -> bool {
        self.folder.is_some()
    }

    /// What samples of it are called.
    pub(crate) fn variant(&self) -> &str {
        &self.variant
    }

    /// The name of a database that this build has installed.
    pub(crate) fn template(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A binary, as a process is started with it.
    pub(crate) fn program(&self, binary: &str) -> String {
        match &self.folder {
            Some(folder) => folder.join(binary).to_string_lossy().into_owned(),
            None => binary.to_owned(),
        }
    }

    /// Databases for an earlier build, by its own commands: what today's tables are is not what it knows.
    ///
    /// # Errors
    /// When one of its commands fails.
    pub(crate) async fn install(&self, environment: &Environment) -> anyhow::Result<()> {
        let postgres = &environment.sandbox.postgres;
        let source = postgres.create_database(&self.template("empty_source"), None).await?;
        let timeline = postgres.create_database(&self.template("empty_timeline"), None).await?;
        let mut connection = PgConnection::connect(&source).await?;
        audit::install(&mut connection, "public").await?;
        connection.close().await?;
        for (binary, command) in [("threadline", "install"), ("publisher", "attach")] {
            let mut installing = Command::new(self.program(binary));
            installing.arg(command).current_dir(environment.sandbox.work_dir.path());
            installing.env("SOURCE_DATABASE_URL", &source).env("THREADLINE_DATABASE_URL", &timeline);
            let done = process::complete(&mut installing)?;
            let said = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "{} {command} failed: {said}", self.program(binary));
        }
        Ok(())
    }
}
