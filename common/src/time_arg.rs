//! Times on command lines.

use std::{fmt, str::FromStr, time::Duration};

use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// Reads a time such as `2026-01-31T08:00:00Z`, a date such as `2026-01-31` for its first moment in UTC, or so long ago, such
/// as `2h`.
///
/// # Errors
/// When it is neither; the message says what is expected.
pub fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(microseconds(time));
    }
    if let Ok(date) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(date.midnight().assume_utc());
    }
    let ago: Duration = humantime::parse_duration(text).map_err(|_| {
        format!(
            "{text:?} is neither a time with its zone such as 2026-01-31T08:00:00Z, nor a date such as 2026-01-31 (in UTC), nor \
             a duration such as 2h"
        )
    })?;
    ago.try_into()
        .ok()
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago))
        .map(microseconds)
        .ok_or_else(|| "too long ago".to_owned())
}

/// The precision of PostgreSQL: what is stored must compare equal to what was meant.
#[must_use]
pub fn microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
}

/// SQL for a `timestamptz` that the driver can hold: `infinity` and the year 10000 are legal in PostgreSQL and would make it
/// panic. NULL stays NULL, of which `least` and `greatest` alone would make the bounds.
#[must_use]
pub fn clamped(time: &str) -> String {
    format!(
        "case when {time} is not null then least(greatest({time}, '0001-01-01 00:00:00+00'::timestamptz), \
         '9999-12-31 23:59:59.999999+00'::timestamptz) end"
    )
}

/// SQL for what `outbox.capture()` makes of a time of the audit table: through epoch seconds, so that `timestamp` is UTC
/// whatever the session's time zone, and bounded, so that rounding does not leave what PostgreSQL can hold.
#[must_use]
pub fn as_captured(time: &str) -> String {
    format!("case when {time} is not null then to_timestamp(least(extract(epoch from {time}), 9.2e12)) end")
}

/// A moment, and how somebody put it: `2h` means another one each time, and yet the same work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeArg {
    /// The time.
    pub at: OffsetDateTime,
    words: String,
}

impl FromStr for TimeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { at: parse_time(text)?, words: text.to_owned() })
    }
}

impl fmt::Display for TimeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// The time as people and programs read it: RFC 3339 in UTC.
#[must_use]
pub fn to_rfc3339(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(parse_time("2026-01-31T08:00:00Z"), Ok(time::macros::datetime!(2026-01-31 08:00 UTC)));
        let ago = OffsetDateTime::now_utc() - parse_time("2h").expect("a duration");
        assert!((ago - time::Duration::hours(2)).abs() < time::Duration::minutes(1), "{ago}");
        assert_eq!(parse_time("2026-01-31"), Ok(time::macros::datetime!(2026-01-31 00:00 UTC)));
        assert_eq!(parse_time("2024-02-29"), Ok(time::macros::datetime!(2024-02-29 00:00 UTC)));
        for neither in
            ["yesterday", "2026-02-30", "2026-1-31", "31.01.2026", "2026-01-31T08:00:00", "2026-01-31 ", ""]
        {
            let error = parse_time(neither).expect_err(neither);
            assert!(error.contains("such as 2h") && error.contains("with its zone"), "{error}");
        }
        assert_eq!(to_rfc3339(time::macros::datetime!(2026-01-31 10:00 +2)), "2026-01-31T08:00:00Z");
    }
}
