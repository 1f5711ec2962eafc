use std::fs;

use super::*;

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("build-info-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// A folder in it that is a package in a repository with one commit.
    fn repository(&self) -> PathBuf {
        let folder = self.0.join("repository");
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("Cargo.toml"), "").expect("a file");
        run(&folder, &["init", "--quiet"]);
        run(&folder, &["add", "."]);
        run(&folder, &["commit", "--quiet", "--message", "First"]);
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
    let all: Vec<&str> = author.iter().chain(arguments).copied().collect();
    git(folder, &all).unwrap_or_else(|| panic!("git {arguments:?}"))
}

fn contents(found: &Commit) -> Vec<String> {
    found.watched.iter().map(|file| fs::read_to_string(file).expect("a file")).collect()
}

#[test]
fn the_commit_is_the_one_that_is_checked_out_and_a_watched_file_changes_with_the_next() {
    let folder = Folder::new("next");
    let package = folder.repository();
    let first = commit(&package).expect("a commit");
    assert!(run(&package, &["rev-parse", "HEAD"]).starts_with(&first.hash));
    let before = contents(&first);
    run(&package, &["commit", "--quiet", "--allow-empty", "--message", "Second"]);
    assert_ne!(contents(&first), before);
    assert_ne!(commit(&package).expect("a commit").hash, first.hash);
}

#[test]
fn a_shallow_clone_and_a_worktree_know_their_commit() {
    let folder = Folder::new("clones");
    let package = folder.repository();
    let first = commit(&package).expect("a commit");
    let origin = format!("file://{}", package.display());
    run(&folder.0, &["clone", "--quiet", "--depth", "1", &origin, "shallow"]);
    run(&package, &["worktree", "add", "--quiet", "../worktree"]);
    for name in ["shallow", "worktree"] {
        let found = commit(&folder.0.join(name)).expect("a commit");
        assert_eq!(found.hash, first.hash, "{name}");
        assert!(!found.watched.is_empty() && found.watched != first.watched, "{name}");
    }
}

#[test]
fn without_a_repository_or_in_one_that_does_not_track_the_package_there_is_no_commit() {
    let folder = Folder::new("none");
    assert_eq!(commit(&folder.0), None);
    let package = folder.repository().join("unpacked");
    fs::create_dir(&package).expect("a folder");
    fs::write(package.join("Cargo.toml"), "").expect("a file");
    assert_eq!(commit(&package), None);
    let said = instructions(&package, "", true, "");
    assert_eq!(
        said,
        ["rerun-if-env-changed=AUDIT_COMMIT", "rustc-env=BUILD_COMMIT=unknown", "rustc-env=BUILD_FEATURES="]
    );
}

#[test]
fn a_commit_that_is_given_wins_and_a_build_without_optimisation_asks_no_git() {
    let folder = Folder::new("given");
    let package = folder.repository();
    let commit_of = |given: &str, optimised: bool| {
        let said = instructions(&package, given, optimised, "");
        let named = said.iter().find_map(|line| line.strip_prefix("rustc-env=BUILD_COMMIT="));
        (named.expect("a commit").to_owned(), said.iter().any(|line| line.starts_with("rerun-if-changed=")))
    };
    let hash = commit(&package).expect("a commit").hash;
    assert_eq!(commit_of("", true), (hash, true));
    assert_eq!(commit_of(" 0123abc\n", true), ("0123abc".to_owned(), false));
    assert_eq!(commit_of("", false), ("unknown".to_owned(), false));
}

#[test]
fn features_are_sorted_and_those_that_stand_for_others_left_out() {
    let said = instructions(Path::new("."), "a", false, "webhook,default,traces");
    assert!(said.contains(&"rustc-env=BUILD_FEATURES=traces, webhook".to_owned()), "{said:?}");
}
