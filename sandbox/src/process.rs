//! Processes of the pipeline: the real binaries, started, killed and watched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{home::Home, wait};

/// A running binary. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Process {
    /// Starts `binary` of this workspace, from the folder that the running program came from: a debug test drives
    /// debug binaries, the release demo drives release ones.
    ///
    /// `name` is unique in the sandbox; the process's output goes to `<name>.log`.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn start(
        home: &Home,
        name: &str,
        binary: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = locate(binary)?;
        let log = home.path().join(format!("{name}.log"));
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .env_remove("AUDIT_CONFIG")
            .envs(environment.iter().copied())
            .current_dir(home.path())
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let pid_file = home.path().join(format!("{name}.pid"));
        fs::write(&pid_file, child.id().to_string())?;
        Ok(Self { child, log, pid_file })
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        self.forget();
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it has not stopped after `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        wait::until("the process to end", deadline, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| format!("its log says:\n{}", self.log()))?;
        self.forget();
        status.context("it has ended")
    }

    /// Its id may be somebody else's from now on: the watchdog must not find it.
    fn forget(&self) {
        let _ = fs::remove_file(&self.pid_file);
    }

    /// Everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.forget();
    }
}

/// Runs a binary of this workspace to its end; answers its exit status with its answer, or with everything it said
/// when it failed.
///
/// # Errors
/// When it has not been built.
pub fn run(
    binary: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    folder: &Path,
) -> anyhow::Result<(ExitStatus, String)> {
    let output = Command::new(locate(binary)?)
        .args(arguments)
        .env_remove("AUDIT_CONFIG")
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text += &String::from_utf8_lossy(&output.stderr);
    }
    Ok((output.status, text))
}

/// Test binaries live in `deps`, one level below the others.
fn locate(binary: &str) -> anyhow::Result<PathBuf> {
    let current = std::env::current_exe()?;
    let folder = current.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join(binary);
    ensure!(
        program.is_file(),
        "{} has not been built: run `cargo build --workspace --bins`",
        program.display()
    );
    Ok(program)
}
