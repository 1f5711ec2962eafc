//! What `--version` shows.

fn main() {
    build_info::emit();
}
