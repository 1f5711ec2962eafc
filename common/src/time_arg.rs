//! Times on command lines.

use std::{fmt, str::FromStr, sync::OnceLock, time::Duration};

use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::settings::UsageError;

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
        .and_then(|ago| command_began().checked_sub(ago))
        .map(microseconds)
        .ok_or_else(|| "too long ago".to_owned())
}

/// What `2h` is measured from: the same for all arguments of one command line, so that equal arguments are equal times.
fn command_began() -> OffsetDateTime {
    static BEGAN: OnceLock<OffsetDateTime> = OnceLock::new();
    *BEGAN.get_or_init(OffsetDateTime::now_utc)
}

/// Refuses a range of times that nothing can be in: it begins at `since` and ends before `until`; without one of them it is open
/// on that side.
///
/// # Errors
/// When it ends before it begins, or at the same moment.
pub fn require_range(since: Option<OffsetDateTime>, until: Option<OffsetDateTime>) -> Result<(), UsageError> {
    match (since, until) {
        (Some(since), Some(until)) if until <= since => Err(UsageError(format!(
            "nothing can be in the range: it ends (--until, {}) before it begins (--since, {}), or at the same moment. \
             Exchange the two, or leave one of them out",
            to_rfc3339(until),
            to_rfc3339(since)
        ))),
        _ => Ok(()),
    }
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

/// A moment, and how it was written: `2h` means another one each time, and yet the same work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeArg {
    /// The time.
    pub at: OffsetDateTime,
    words: String,
}

impl TimeArg {
    /// Whether it was given as a duration, so that it is another time when the command runs again.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        humantime::parse_duration(&self.words).is_ok()
    }
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

    #[test]
    fn a_range_that_nothing_can_be_in_is_refused() {
        let at = |text| Some(parse_time(text).expect("a time"));
        for (since, until) in [
            ("2026-01-31", "2026-01-30"),
            ("2026-01-31", "2026-01-31"),
            ("1h", "2h"),
            ("2h", "2h"),
            ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z"),
        ] {
            let error = require_range(at(since), at(until)).expect_err(since).to_string();
            assert!(error.contains("--until") && error.contains("--since"), "{error}");
        }
        for (since, until) in [
            (at("2h"), at("1h")),
            (at("2h"), None),
            (None, at("2h")),
            (None, None),
            (at("2026-01-30"), at("1s")),
        ] {
            assert_eq!(require_range(since, until), Ok(()));
        }
        let relative = |text: &str| text.parse::<TimeArg>().expect("a time").is_relative();
        assert!(relative("2h") && !relative("2026-01-31") && !relative("2026-01-31T08:00:00Z"));
    }
}
