//! The sandbox's folder, its unprivileged user, and the watchdog that cleans up after a process that cannot.

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    ops::RangeInclusive,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{User, geteuid};

/// Runs until its standard input ends, which happens when the sandbox's process ends for whatever reason, `kill -9`
/// and panic included. Then it stops what is left, by the pid files in the folder, and removes the folder.
const WATCHDOG: &str = r#"
cat >/dev/null
for file in "$1"/*.pid "$1"/*/postmaster.pid; do
    [ -f "$file" ] || continue
    pid=$(head -n 1 "$file")
    # SIGQUIT is PostgreSQL's immediate stop; it takes its shared memory along, which SIGKILL would not.
    kill -QUIT "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
    kill -KILL "$pid" 2>/dev/null
done
[ -n "$2" ] || rm -rf "$1"
"#;

/// A folder of its own. Dropped, it is removed with everything that still runs in it.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    user: Option<User>,
    /// Closing it ends the watchdog's wait.
    alive: Option<ChildStdin>,
    watchdog: Child,
}

impl WorkDir {
    /// Below `target/sandbox` of this project; below the system's temporary folder when the unprivileged user cannot
    /// get there. `SANDBOX_KEEP` leaves the folder behind, for its logs.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let user = unprivileged_user()?;
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
        let parent = if user.is_none() || everybody_may_enter(&target) {
            target.join("sandbox")
        } else {
            std::env::temp_dir().join("audit-sandbox")
        };
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        if let Some(user) = &user {
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let keep = std::env::var_os("SANDBOX_KEEP").unwrap_or_default();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&path)
            .arg(keep)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole foreground group; the watchdog must outlive it.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let alive = watchdog.stdin.take();
        Ok(Self { path, user, alive, watchdog })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs as the unprivileged user, in a process group of its own, its output in `log`.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn command(&self, program: &Path, log: &str) -> anyhow::Result<Command> {
        let log = fs::File::options().create(true).append(true).open(self.path.join(log))?;
        let mut command = Command::new(program);
        command
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }

    /// The program itself, or a copy of it in this folder when the unprivileged user cannot reach it.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn reachable(&self, program: &Path) -> anyhow::Result<PathBuf> {
        if self.user.is_none() || everybody_may_enter(program.parent().unwrap_or(Path::new("/"))) {
            return Ok(program.to_owned());
        }
        let copy = self.path.join(program.file_name().context("a program has a name")?);
        if !copy.exists() {
            fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
        }
        Ok(copy)
    }

    /// The last lines of a log in this folder, for error messages.
    #[must_use]
    pub fn tail(&self, log: &str) -> String {
        let text = fs::read_to_string(self.path.join(log)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.watchdog.wait();
    }
}

/// `postgres` exists where PostgreSQL was installed from a package; `nobody` exists everywhere.
fn unprivileged_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("running as root, and there is neither a user `postgres` nor `nobody` to start the servers as")
}

fn everybody_may_enter(path: &Path) -> bool {
    const OTHERS_MAY_ENTER: u32 = 0o001;
    path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()).all(|ancestor| {
        fs::metadata(ancestor).map_or(true, |data| data.permissions().mode() & OTHERS_MAY_ENTER != 0)
    })
}

/// Below those that Linux gives to connections (from 32768 on): none of them takes a port between the moment in which it is found and that in
/// which the server listens that it is for.
const PORTS: RangeInclusive<u16> = 15_000..=31_999;

/// Ports that are tried.
const ATTEMPTS: usize = 10_000;

/// A port of the loopback interface that nobody listens on at this moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(free_ports(1)?[0])
}

/// That many different ones.
///
/// # Errors
/// When there are fewer.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // Held until all are found: one that was given back may be found again.
    let mut listeners = Vec::new();
    for _ in 0..ATTEMPTS {
        if listeners.len() == count {
            break;
        }
        let random = RandomState::new().build_hasher().finish();
        let port = PORTS.start() + u16::try_from(random % PORTS.len() as u64).unwrap_or_default();
        listeners.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    ensure!(
        listeners.len() == count,
        "no {count} ports are free between {} and {}",
        PORTS.start(),
        PORTS.end()
    );
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
