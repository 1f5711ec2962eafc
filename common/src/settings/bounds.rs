//! How a value that cannot be used is refused: the words, and the ranges.

use std::time::Duration;

use super::secrets;

/// A key, and what is wrong with its value.
pub(super) type Refusal = (String, String);

pub(super) fn refuse(key: &str, message: impl Into<String>) -> Result<(), Refusal> {
    Err((key.to_owned(), message.into()))
}

/// A secret in place of the path of its file would be shown wherever the path is.
pub(super) fn path(key: &str, value: Option<&str>) -> Result<(), Refusal> {
    if value.is_some_and(secrets::is_secret) {
        return refuse(
            key,
            "is the path of a file, and this looks like what belongs into it: keep it secret, and write the path",
        );
    }
    Ok(())
}

/// What another crate's rule says of a value.
pub(super) fn stated(key: &str, result: Result<(), String>) -> Result<(), Refusal> {
    result.map_err(|message| (key.to_owned(), message))
}

pub(super) fn number<T: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), Refusal> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    refuse(key, format!("must be {least} to {most}, is {value}"))
}

pub(super) fn within(key: &str, value: Duration, least: Duration, most: Duration) -> Result<(), Refusal> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let text = humantime::format_duration;
    refuse(key, format!("must be {} to {}, is {}", text(least), text(most), text(value)))
}

pub(super) fn name<const N: usize>(key: &str, value: &str, forbidden: [char; N]) -> Result<(), Refusal> {
    if value.is_empty() || value.contains(forbidden) {
        return refuse(key, format!("{value:?} is empty or holds one of {forbidden:?}"));
    }
    Ok(())
}
