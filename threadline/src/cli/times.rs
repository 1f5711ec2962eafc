//! Times as arguments of command lines, the same ones everywhere.

use std::str::FromStr;

use threadline::query::{FilterError, Instant};

/// A time. What it cannot be is said without a name: the argument's own stands before it.
pub(crate) fn at<T: FromStr<Err = FilterError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(words)
}

/// A time that something ends at: a date is all of its day.
pub(crate) fn end(text: &str) -> Result<Instant, String> {
    Instant::end(text).map_err(words)
}

fn words(error: FilterError) -> String {
    let term = error.term();
    match error {
        FilterError::Value { expected, .. } => format!("{term}: expected {expected}"),
        error => format!("{term}: {error}"),
    }
}
