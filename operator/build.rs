//! What `--version` shows.

fn main() {
    #[cfg(feature = "serve")]
    build_info::emit();
}
