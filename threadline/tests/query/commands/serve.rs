//! `threadline serve` hands over to a binary of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sandbox::work_dir::WorkDir;

/// A copy of the binary in a folder of its own.
fn installed(work_dir: &WorkDir, name: &str) -> anyhow::Result<PathBuf> {
    let folder = work_dir.path().join(name);
    fs::create_dir(&folder)?;
    let binary = folder.join("threadline");
    fs::copy(env!("CARGO_BIN_EXE_threadline"), &binary)?;
    Ok(binary)
}

/// Something of that name that says which one it is, and what it was given.
fn serving(folder: &Path, says: &str) -> anyhow::Result<()> {
    let program = folder.join("threadline-serve");
    fs::write(&program, format!("#!/bin/sh\necho \"{says}: $*\"\nexit 7\n"))?;
    Ok(fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?)
}

fn serve(binary: &Path, path: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binary).arg("serve").args(arguments).env("PATH", path).output()?)
}

#[test]
fn serve_becomes_the_binary_beside_it_or_the_one_in_path_with_all_that_it_was_given() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let binary = installed(&work_dir, "installed")?;
    let elsewhere = work_dir.path().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    let given = ["--set", "operator.auth.kind=none", "--help", "config", "-x"];

    let missing = serve(&binary, &elsewhere, &given)?;
    let error = String::from_utf8(missing.stderr)?;
    assert_eq!(missing.status.code(), Some(2), "{error}");
    for part in [
        "threadline-serve",
        "nor in a folder of PATH",
        "cargo build --release --package operator",
        "/installed)",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }

    serving(&elsewhere, "in PATH")?;
    let found = serve(&binary, &elsewhere, &given)?;
    assert_eq!(String::from_utf8(found.stdout)?, format!("in PATH: {}\n", given.join(" ")));
    assert_eq!(found.status.code(), Some(7));

    serving(binary.parent().unwrap(), "beside it")?;
    let found = serve(&binary, &elsewhere, &[])?;
    assert_eq!(String::from_utf8(found.stdout)?, "beside it: \n");
    Ok(())
}

#[test]
fn one_that_cannot_be_started_is_named() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let binary = installed(&work_dir, "installed")?;
    fs::write(binary.with_file_name("threadline-serve"), "no program")?;
    let refused = serve(&binary, Path::new("/nowhere"), &[])?;
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(
        error.contains("cannot start") && error.contains("/installed/threadline-serve: Permission denied"),
        "{error}"
    );
    Ok(())
}
