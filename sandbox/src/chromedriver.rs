//! A private `ChromeDriver`, which starts browsers for tests.

use std::{
    fs,
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::{
    process::reap,
    wait,
    work_dir::{WorkDir, free_port},
};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A driver. Dropped, it is killed, and its browsers end with it.
#[derive(Debug)]
pub struct ChromeDriver {
    port: u16,
    process: Child,
    folder: PathBuf,
    /// The watchdog's way to one that is left over.
    pid_file: PathBuf,
    profiles: AtomicU32,
}

impl ChromeDriver {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(work_dir: &WorkDir) -> anyhow::Result<Self> {
        let port = free_port()?;
        let folder = work_dir.path().join(format!("browsers-{port}"));
        fs::create_dir_all(&folder)?;
        let name = format!("chromedriver-{port}");
        let log = work_dir.path().join(format!("{name}.log"));
        let output = fs::File::options().create(true).append(true).open(&log)?;
        // As who runs the tests, and not as the user of the servers, who has no home.
        let process = Command::new(find("chromedriver", "chromium-driver")?)
            .args([format!("--port={port}"), "--allowed-ips=127.0.0.1".to_owned()])
            .env("TMPDIR", &folder)
            .env("HOME", &folder)
            .current_dir(&folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start chromedriver")?;
        let pid_file = work_dir.path().join(format!("{name}.pid"));
        fs::write(&pid_file, process.id().to_string())?;
        let driver = Self { port, process, folder, pid_file, profiles: AtomicU32::new(0) };
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait::until("chromedriver to listen", START_DEADLINE, listens)
            .with_context(|| format!("its log says:\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(driver)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a session of it is asked for: a browser without a window, with a fresh profile, which says what it logs. It runs no script of a
    /// page where `scripts` is false.
    ///
    /// # Errors
    /// When no browser is installed.
    pub fn capabilities(&self, scripts: bool) -> anyhow::Result<Value> {
        let profile = self.folder.join(format!("profile-{}", self.profiles.fetch_add(1, Ordering::Relaxed)));
        let mut arguments = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            // Its end is the browser's.
            "--remote-debugging-pipe".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--lang=en".to_owned(),
        ];
        if geteuid().is_root() {
            // It refuses to run as root with one.
            arguments.push("--no-sandbox".to_owned());
        }
        let scripts = if scripts { 1 } else { 2 };
        Ok(json!({
            "goog:chromeOptions": {
                "binary": find("chromium", "chromium")?,
                "args": arguments,
                "prefs": {"profile.managed_default_content_settings.javascript": scripts},
            },
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": 60_000, "script": 60_000},
        }))
    }
}

impl Drop for ChromeDriver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = reap(&mut self.process);
        let _ = fs::remove_file(&self.pid_file);
    }
}

fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|folder| folder.join(program)).find(|found| Path::is_file(found)) {
        Some(found) => Ok(found),
        None => bail!("{program} was not found. Install it with `apt-get install {package}`"),
    }
}
