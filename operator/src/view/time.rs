//! Times for people.

use jiff::{Timestamp, tz::TimeZone};
use time::OffsetDateTime;

/// Today's as a time of day, this year's without the year: as short as it can be told apart.
pub(super) fn short(at: OffsetDateTime, now: OffsetDateTime, zone: &TimeZone) -> String {
    let (Some(at), Some(now)) = (zoned(at, zone), zoned(now, zone)) else {
        return threadline::query::time_text(at);
    };
    let format = if at.date() == now.date() {
        "Today %H:%M:%S %Z"
    } else if at.year() == now.year() {
        "%b %-d, %H:%M:%S %Z"
    } else {
        "%Y-%m-%d %H:%M:%S %Z"
    };
    at.strftime(format).to_string()
}

/// With the date and every digit.
pub(super) fn long(at: OffsetDateTime, zone: &TimeZone) -> String {
    zoned(at, zone).map_or_else(
        || threadline::query::time_text(at),
        |at| at.strftime("%Y-%m-%d %H:%M:%S%.6f %Z").to_string(),
    )
}

/// None for years that the library does not know.
fn zoned(at: OffsetDateTime, zone: &TimeZone) -> Option<jiff::ZonedDateTime> {
    let nanoseconds = at.unix_timestamp_nanos();
    Some(Timestamp::from_nanosecond(nanoseconds).ok()?.to_zoned_datetime(zone.clone()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_is_as_short_as_it_can_be_told_apart() {
        let now = datetime!(2026-05-15 22:30:00 UTC);
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (at, utc, there) in [
            (datetime!(2026-05-15 21:59:59 UTC), "Today 21:59:59 UTC", "May 15, 23:59:59 CEST"),
            (datetime!(2026-05-15 22:00:00 UTC), "Today 22:00:00 UTC", "Today 00:00:00 CEST"),
            (datetime!(2026-01-02 03:04:05 UTC), "Jan 2, 03:04:05 UTC", "Jan 2, 04:04:05 CET"),
            (datetime!(1999-12-31 23:30:00 UTC), "1999-12-31 23:30:00 UTC", "2000-01-01 00:30:00 CET"),
        ] {
            assert_eq!(short(at, now, &TimeZone::UTC), utc);
            assert_eq!(short(at, now, &berlin), there);
        }
        let exact = datetime!(2026-03-29 01:00:00.000_001 UTC);
        assert_eq!(long(exact, &berlin), "2026-03-29 03:00:00.000001 CEST");
        // Beyond what the library knows.
        assert_eq!(short(datetime!(9999-12-31 23:59:59 UTC), now, &berlin), "9999-12-31T23:59:59.000000Z");
    }
}
