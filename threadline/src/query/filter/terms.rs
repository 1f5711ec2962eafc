//! The keys of filters.
/// All keys.
pub(super) fn names() -> String { String::new() }
