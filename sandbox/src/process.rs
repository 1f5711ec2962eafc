//! Processes of the pipeline: the real binaries, started, killed and watched.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{wait, work_dir::WorkDir};

/// How long a wrapper may take to start the binary, or to end after it.
const WRAPPER_DEADLINE: Duration = Duration::from_secs(30);

/// How long a command may run that is expected to end by itself.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// How long a process may take to end after it was told to.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// A running binary. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    /// What was started: the binary itself, or its wrapper.
    child: Child,
    /// The binary's own process, whatever wraps it.
    pid: Pid,
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
        work_dir: &WorkDir,
        name: &str,
        binary: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_with(work_dir, name, &[], binary, arguments, environment)
    }

    /// The same behind a wrapper: a program and its arguments, which runs the command line that follows them, for
    /// example `["faketime", "--exclude-monotonic", "-f", "+5m"]`. (A monotonic clock that is shifted as well makes
    /// the binary's own timers late: the kernel does not know of the shift.)
    ///
    /// A wrapper may become the binary, as `env` does, or start it and wait, as `faketime` does. Signals go to the
    /// binary itself; the exit status is what the wrapper makes of it.
    ///
    /// # Errors
    /// When the binary has not been built, or the wrapper is missing or does not start it.
    pub fn start_with(
        work_dir: &WorkDir,
        name: &str,
        wrapper: &[&str],
        binary: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = locate(binary)?;
        let mut command = match wrapper {
            [] => Command::new(&program),
            [wrapper, options @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(options).arg(&program);
                command
            }
        };
        let log = work_dir.path().join(format!("{name}.log"));
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let child = command
            .args(arguments)
            .env_remove("AUDIT_CONFIG")
            .envs(environment.iter().copied())
            .current_dir(work_dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| match wrapper {
                [] => format!("cannot start {binary}"),
                [wrapper, ..] => format!("cannot start {binary} by {wrapper}: is {wrapper} installed?"),
            })?;
        let pid_file = work_dir.path().join(format!("{name}.pid"));
        // Before the wrapper is waited for: from here on the watchdog knows of it.
        fs::write(&pid_file, child.id().to_string())?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut process = Self { child, pid, log, pid_file };
        if !wrapper.is_empty() {
            process.find_wrapped(&program)?;
        }
        Ok(process)
    }

    /// Looks for the process that runs `program`: the wrapper, or a descendant. One that has ended already is not
    /// found, and not missed.
    fn find_wrapped(&mut self, program: &Path) -> anyhow::Result<()> {
        let program = program.canonicalize()?;
        let wrapper = self.child.id();
        let mut found = None;
        wait::until("the wrapper to start the binary", WRAPPER_DEADLINE, || {
            found = descendant(wrapper, &program);
            found.is_some() || self.child.try_wait().is_ok_and(|status| status.is_some())
        })
        .with_context(|| format!("its log says:\n{}", self.log()))?;
        if let Some(found) = found {
            self.pid = Pid::from_raw(found.cast_signed());
            fs::write(&self.pid_file, found.to_string())?;
        }
        Ok(())
    }

    /// The process id of the binary.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        reap(&mut self.child)?;
        self.remove_pid_file();
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.pid, signal)?)
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it has not stopped after `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// As somebody at its terminal would, and waits.
    ///
    /// # Errors
    /// When it has not stopped after `deadline`.
    pub fn interrupt(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGINT)?;
        self.wait(deadline)
    }

    /// Whether it has ended, without waiting.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        let ended = self.child.try_wait()?.is_some();
        if ended {
            self.remove_pid_file();
        }
        Ok(ended)
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
        self.remove_pid_file();
        status.context("it has ended")
    }

    /// Its id may be somebody else's from now on: the watchdog must not find it.
    fn remove_pid_file(&self) {
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
        // Only while the child has not been waited for: its id may be somebody else's afterwards.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid, Signal::SIGKILL);
            // A wrapper may have to tidy up; faketime has shared memory.
            let ended = || !matches!(self.child.try_wait(), Ok(None));
            let _ = wait::until("the wrapper to end as well", WRAPPER_DEADLINE, ended);
            let _ = self.child.kill();
            let _ = reap(&mut self.child);
        }
        self.remove_pid_file();
    }
}

/// The process that runs `program`: `pid` or a descendant of it.
fn descendant(pid: u32, program: &Path) -> Option<u32> {
    if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|running| running == program) {
        return Some(pid);
    }
    children_of(pid).into_iter().find_map(|child| descendant(child, program))
}

/// Whether a process still holds anything: a zombie does not, and nobody may ever collect it.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state follows.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The children of a process that has one thread.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Runs a binary of this workspace to its end; returns its exit status with its answer, or with everything it said
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
    let mut command = Command::new(locate(binary)?);
    command.args(arguments).env_remove("AUDIT_CONFIG").envs(environment.iter().copied()).current_dir(folder);
    let output = complete(&mut command)?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text += &String::from_utf8_lossy(&output.stderr);
    }
    Ok((output.status, text))
}

/// Runs a command to its end, without input. One that does not end by itself is killed.
///
/// # Errors
/// When it cannot be started, or has not ended in time: with everything that it printed.
pub fn complete(command: &mut Command) -> anyhow::Result<Output> {
    complete_within(command, COMMAND_DEADLINE)
}

fn complete_within(command: &mut Command, deadline: Duration) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let [stdout, stderr] = [scope.spawn(|| read(stdout)), scope.spawn(|| read(stderr))];
        let mut status = None;
        let ended = wait::until("a command to end", deadline, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        if ended.is_err() {
            child.kill()?;
            reap(&mut child)?;
        }
        let [stdout, stderr] = [stdout, stderr].map(|output| output.join().unwrap_or_default());
        let printed = || [&*stdout, &*stderr].map(String::from_utf8_lossy).join("\n");
        ended.with_context(|| format!("{command:?} printed:\n{}", printed()))?;
        Ok(Output { status: status.context("it has ended")?, stdout, stderr })
    })
}

fn read(output: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        let _ = output.read_to_end(&mut bytes);
    }
    bytes
}

/// Collects a process that was told to end. One that does not is killed, which is an error.
pub(crate) fn reap(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let mut status = None;
    let ended = wait::until("a process to end that was told to", END_DEADLINE, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if let Err(error) = ended {
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    status.context("it has ended")
}

/// Where a binary of this workspace is. Test binaries live in `deps`, one level below the others.
///
/// # Errors
/// When it has not been built.
pub fn locate(binary: &str) -> anyhow::Result<PathBuf> {
    let current = std::env::current_exe()?;
    let folder = current.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    // `examples/embed_publisher` is an example of that name.
    let program = folder.join(binary);
    ensure!(program.is_file(), "{} has not been built: run `cargo build --bins`", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_end_is_killed_and_what_it_printed_is_told() {
        let mut endless = Command::new("sh");
        endless.args(["-c", "echo begun; exec sleep 1000"]);
        let error = complete_within(&mut endless, Duration::from_millis(300)).expect_err("it sleeps");
        assert!(format!("{error:#}").contains("begun"), "{error:#}");
    }
}
