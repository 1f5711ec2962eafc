//! Compiles the crate again when a migration is added: the macro that includes them sees only files that it knows
//! (`sqlx::migrate!`, "Stable Rust: Cargo Build Script"). And what `--version` shows.

#![allow(clippy::print_stdout, reason = "how a build script tells cargo")]

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    #[cfg(feature = "cli")]
    build_info::emit();
}
