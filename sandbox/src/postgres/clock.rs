//! A server whose clock the tests set.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};

use super::Postgres;
use crate::work_dir::WorkDir;

/// The clock of one server.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// Sets it to an offset from this machine's, such as `-2h`. It counts from the server's next look at the time.
    ///
    /// # Errors
    /// When the file that it stands in cannot be written.
    pub fn set(&self, offset: &str) -> anyhow::Result<()> {
        // Never half written when it is read.
        let next = self.0.with_extension("next");
        fs::write(&next, offset).context("cannot set the clock")?;
        fs::rename(&next, &self.0).context("cannot set the clock")
    }
}

impl Postgres {
    /// [`Postgres::start`] with a clock of its own, which stands at `offset`.
    ///
    /// # Errors
    /// Also when `faketime` is not installed.
    pub fn start_with_clock(work_dir: &WorkDir, offset: &str) -> anyhow::Result<(Self, Clock)> {
        let clock = Clock(work_dir.path().join("clock"));
        clock.set(offset)?;
        let mut private = Self::cluster(work_dir, false, "")?;
        private
            .command
            .env("LD_PRELOAD", library()?)
            .env("FAKETIME_TIMESTAMP_FILE", &clock.0)
            .env("FAKETIME_NO_CACHE", "1")
            // Time-outs and sleeps go by the other one.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Ok((Self::launch(private)?, clock))
    }
}

/// What `faketime` puts before a program, as the dynamic linker understands it. Not the wrapper itself: its clock cannot be
/// set later.
fn library() -> anyhow::Result<String> {
    let asked = Command::new("faketime").args(["-f", "+0s", "printenv", "LD_PRELOAD"]).output();
    let answer = String::from_utf8(asked.context("cannot run faketime")?.stdout)?;
    let library = answer.trim();
    ensure!(!library.is_empty(), "faketime does not say which library it is");
    Ok(library.to_owned())
}
