//! How times are written: RFC 3339 in UTC, always with six decimals.

use serde::Serializer;
use time::OffsetDateTime;

pub(crate) fn time<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&super::time_text(*time))
}

#[expect(clippy::ref_option, reason = "what serde hands over")]
pub(crate) fn optional_time<S: Serializer>(
    time: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => self::time(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "what serde hands over")]
pub(crate) fn text<S: Serializer, T: std::fmt::Display>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
