//! Programs of others that read what we export.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Where the packages of a reader are; none where they cannot be had, which continuous integration does not accept.
pub(super) fn reader(of: &str) -> anyhow::Result<Option<PathBuf>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/readers");
    let fetched = Command::new(script).arg(of).stderr(Stdio::inherit()).output()?;
    if fetched.status.code() == Some(3) && std::env::var("CI").as_deref() != Ok("true") {
        // Not by a macro, whose output of a test that passes nobody sees.
        writeln!(
            std::io::stderr(),
            "\n###### NOT TESTED with another reader of {of}: it cannot be had ######\n"
        )?;
        return Ok(None);
    }
    anyhow::ensure!(fetched.status.success(), "scripts/readers {of} failed");
    Ok(Some(String::from_utf8(fetched.stdout)?.trim().into()))
}
