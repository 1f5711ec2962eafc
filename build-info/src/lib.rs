//! For build scripts of binaries: the commit and the cargo features that `--version` shows.
//!
//! A build script calls [`emit`]. The crate that it belongs to then has two variables at compile time:
//!
//! - `env!("BUILD_COMMIT")`: the commit, `unknown` where there is none;
//! - `env!("BUILD_FEATURES")`: the cargo features in the order of their names, such as `traces, webhook`; empty for none.
//!
//! The commit is `AUDIT_COMMIT`, if this environment variable is set at build time. Otherwise git is asked, in optimised builds
//! only: a commit compiles the crate and all that depend on it again, which while one develops would be after every commit.
//!
//! ```
//! use std::path::Path;
//!
//! let found = build_info::commit(Path::new(env!("CARGO_MANIFEST_DIR")));
//! // `None` without git, without a repository, and for a package that the repository around it does not track.
//! assert!(found.is_none_or(|found| found.hash.len() >= 7));
//! ```

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// A commit, and how cargo notices the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The first digits of its hash: 12, or more where they are ambiguous.
    pub hash: String,
    /// Files that change with the next commit, and with a change of branch.
    pub watched: Vec<PathBuf>,
}

/// Tells cargo the variables, and what the build script depends on. What else it depends on may be added.
#[expect(clippy::print_stdout, reason = "how a build script tells cargo")]
pub fn emit() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let instructions = instructions(
        &package,
        &variable("AUDIT_COMMIT"),
        variable("OPT_LEVEL") != "0",
        &variable("CARGO_CFG_FEATURE"),
    );
    for instruction in instructions {
        println!("cargo::{instruction}");
    }
}

fn instructions(package: &Path, given: &str, optimised: bool, features: &str) -> Vec<String> {
    let found = match given.trim() {
        "" if optimised => commit(package),
        "" => None,
        given => Some(Commit { hash: given.to_owned(), watched: Vec::new() }),
    };
    let mut features: Vec<&str> =
        features.split(',').filter(|name| !name.is_empty() && *name != "default").collect();
    features.sort_unstable();
    let hash = found.as_ref().map_or("unknown", |found| &found.hash);
    let mut instructions = vec![
        // Also says that nothing else counts; without it any change in the package would.
        "rerun-if-env-changed=AUDIT_COMMIT".to_owned(),
        format!("rustc-env=BUILD_COMMIT={hash}"),
        format!("rustc-env=BUILD_FEATURES={}", features.join(", ")),
    ];
    let watched = found.iter().flat_map(|found| &found.watched);
    instructions.extend(watched.map(|file| format!("rerun-if-changed={}", file.display())));
    instructions
}

/// The commit that is checked out around the folder of a package; `None` where there is none, or no git, and for a package that is
/// not tracked, such as one that cargo has unpacked somewhere below a home directory that is a repository.
#[must_use]
pub fn commit(package: &Path) -> Option<Commit> {
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let hash = git(package, &["rev-parse", "--short=12", "HEAD"])?;
    // The first changes with the branch, the second with each commit too. Cargo takes a missing one for changed at every build.
    let watched = ["HEAD", "logs/HEAD"]
        .into_iter()
        .filter_map(|file| git(package, &["rev-parse", "--git-path", file]))
        .map(|file| package.join(file))
        .filter(|file| file.exists())
        .collect();
    Some(Commit { hash, watched })
}

/// What git says in a folder, if it can say it.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

#[cfg(test)]
mod tests;
