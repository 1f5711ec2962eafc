//! When: from now backwards, or between two times.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::datetime};

use super::FilterError;

/// A part of time. Both ends belong to it. One that is open at both ends is equal to everything.
#[derive(Debug, Clone, Copy, Default)]
pub enum Window {
    /// All of it.
    #[default]
    Everything,
    /// From so long ago on. It moves: a link with it means another time tomorrow.
    Last(Span),
    /// Between two times; an end that is not said is open.
    Between {
        /// The first one.
        from: Option<Instant>,
        /// The last one.
        to: Option<Instant>,
    },
}

/// A length of time: `90s`, `15m`, `24h`, `7d`, `2w`. It is written in the largest unit of which it is a whole number: `24h` as `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    seconds: u32,
}

/// A time of the years 1 to 9999, as RFC 3339 or PostgreSQL writes it: with an offset, such as `Z`, `+02:00` or `+02`. Of its decimals six
/// count. A date without a time is its first moment, in UTC; as an end, its last. So long ago, such as `2h`, is the time that it was when the
/// text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(OffsetDateTime);

impl Window {
    /// Both ends, as they are at `now`.
    #[must_use]
    pub fn ends(self, now: OffsetDateTime) -> (Option<OffsetDateTime>, Option<OffsetDateTime>) {
        match self {
            Self::Everything => (None, None),
            Self::Last(span) => (now.checked_sub(Duration::seconds(span.seconds.into())), None),
            Self::Between { from, to } => (from.map(|Instant(from)| from), to.map(|Instant(to)| to)),
        }
    }

    fn parts(self) -> (Option<Span>, Option<Instant>, Option<Instant>) {
        match self {
            Self::Everything => (None, None, None),
            Self::Last(span) => (Some(span), None, None),
            Self::Between { from, to } => (None, from, to),
        }
    }

    pub(super) fn check(self) -> Result<(), FilterError> {
        match self {
            Self::Between { from: Some(from), to: Some(to) } if from > to => {
                Err(FilterError::Combination("from is later than to: exchange them"))
            }
            _ => Ok(()),
        }
    }
}

// No view can write that a window has two ends which are both open.
impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Window {}

impl Hash for Window {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl Span {
    /// So many seconds; `None` for none.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Option<Self> {
        (seconds > 0).then_some(Self { seconds })
    }

    /// Its length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

const UNITS: [(char, u32); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl FromStr for Span {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refused = || FilterError::value("last", text, "a length such as 90s, 15m, 24h, 7d or 2w");
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit)).ok_or_else(refused)?;
        let number =
            text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u32 = number.and_then(|digits| digits.parse().ok()).ok_or_else(refused)?;
        number.checked_mul(factor).and_then(Self::from_seconds).ok_or_else(refused)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.into_iter().find(|(_, factor)| self.seconds.is_multiple_of(*factor)).unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.seconds / factor)
    }
}

/// The first time that can be written with four digits of the year.
const FIRST: OffsetDateTime = datetime!(0001-01-01 00:00:00 UTC);

/// The last one.
const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59.999_999_999 UTC);

impl Instant {
    /// A time, cut to microseconds, as PostgreSQL has them. One before the year 1 or behind 9999 becomes the first or last one of these.
    #[must_use]
    pub fn new(time: OffsetDateTime) -> Self {
        let time = time.clamp(FIRST, LAST).to_offset(UtcOffset::UTC);
        Self(time.replace_nanosecond(time.microsecond() * 1_000).unwrap_or(time))
    }

    /// The last moment of its day, in UTC.
    #[must_use]
    pub fn end_of_day(self) -> Self {
        let last = time::macros::time!(23:59:59.999_999);
        Self(self.0.replace_time(last))
    }

    /// A time that something ends at: a date is all of its day.
    ///
    /// # Errors
    /// `filter_value` for what is none.
    pub fn end(text: &str) -> Result<Self, FilterError> {
        let at: Self = text.parse()?;
        Ok(if is_date(text) { at.end_of_day() } else { at })
    }

    /// The time.
    #[must_use]
    pub fn time(self) -> OffsetDateTime {
        self.0
    }
}

/// Whether it is a date, as far as its form says it.
fn is_date(text: &str) -> bool {
    text.len() == "2026-05-15".len() && text.as_bytes()[4] == b'-'
}

/// The form of RFC 3339 of a date, or of a time as PostgreSQL prints it: with a space, and an offset of hours alone.
fn rfc3339(text: &str) -> String {
    if is_date(text) {
        return format!("{text}T00:00:00Z");
    }
    let hours = match text.as_bytes() {
        [.., b'0'..=b'9', b'+' | b'-', b'0'..=b'9', b'0'..=b'9'] => ":00",
        _ => "",
    };
    format!("{}{hours}", text.replacen(' ', "T", 1))
}

impl FromStr for Instant {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        const EXPECTED: &str = "a date such as 2026-05-15, a time with its offset such as 2026-05-15T12:00:00Z, or so long ago, such as 2h";
        if let Ok(ago) = text.parse::<Span>() {
            let at = OffsetDateTime::now_utc().checked_sub(Duration::seconds(ago.seconds.into()));
            return at.map(Self::new).ok_or_else(|| FilterError::value("a time", text, EXPECTED));
        }
        OffsetDateTime::parse(&rfc3339(text), &Rfc3339)
            .ok()
            // Compared without a change of the offset: the last hours of 9999 may be of the year 10000 in UTC, which has no form.
            .filter(|time| (FIRST..=LAST).contains(time))
            .map(Self::new)
            .ok_or_else(|| FilterError::value("a time", text, EXPECTED))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::super::time_text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instant(text: &str) -> Instant {
        text.parse().expect(text)
    }

    #[test]
    fn a_span_is_a_whole_number_of_one_unit() {
        for (text, seconds, written) in [
            ("1s", 1, "1s"),
            ("90s", 90, "90s"),
            ("60s", 60, "1m"),
            ("15m", 900, "15m"),
            ("24h", 86_400, "1d"),
            ("36h", 129_600, "36h"),
            ("7d", 604_800, "1w"),
            ("010d", 864_000, "10d"),
            ("7101w", 4_294_684_800, "7101w"),
            ("4294967295s", u32::MAX, "4294967295s"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!((span.seconds(), span.to_string().as_str()), (seconds, written), "{text}");
            assert_eq!(Span::from_seconds(seconds), Some(span));
        }
        assert_eq!(Span::from_seconds(0), None);
    }

    #[test]
    fn a_span_of_nothing_or_of_more_than_its_type_holds_is_none() {
        for text in [
            "",
            "s",
            "0s",
            "0w",
            "-1s",
            "+1s",
            "1",
            "1.5h",
            "1 h",
            "1h30m",
            "1H",
            "1y",
            "4294967296s",
            "7102w",
            "٣d",
            "1é",
        ] {
            assert_eq!(text.parse::<Span>().expect_err(text).term(), "filter_value");
        }
    }

    #[test]
    fn a_time_is_written_in_utc_with_six_decimals() {
        for (text, written) in [
            ("2026-05-15", "2026-05-15T00:00:00.000000Z"),
            ("2024-02-29", "2024-02-29T00:00:00.000000Z"),
            ("2026-05-15T12:00:00Z", "2026-05-15T12:00:00.000000Z"),
            ("2026-05-15T12:00:00.5+02:00", "2026-05-15T10:00:00.500000Z"),
            ("2026-05-15T01:00:00-05:30", "2026-05-15T06:30:00.000000Z"),
            ("2026-05-15 12:00:00.123456+00", "2026-05-15T12:00:00.123456Z"),
            ("2026-05-15 12:00:00-03", "2026-05-15T15:00:00.000000Z"),
            ("2026-05-15 12:00:00+05:30", "2026-05-15T06:30:00.000000Z"),
            ("2026-05-15T12:00:00.123456999Z", "2026-05-15T12:00:00.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01", "0001-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(instant(text).to_string(), written, "{text}");
            assert_eq!(instant(written), instant(text), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_last_microsecond_before_it() {
        assert_eq!(instant("2016-12-31T23:59:60Z").to_string(), "2016-12-31T23:59:59.999999Z");
        assert!("2016-12-31T12:00:60Z".parse::<Instant>().is_err(), "none is in the middle of a day");
    }

    #[test]
    fn what_is_no_time_or_beyond_four_digits_of_the_year_is_refused() {
        for text in [
            "",
            "now",
            "2026-05-15T12:00:00",
            "2026-05-15 12:00:00",
            "2026-05-15T12:00Z",
            "2026-05-15T24:00:00Z",
            "2026-05-15T12:00:00+24:00",
            "2026-05-15T12:00:00 02:00",
            "2026-05-15T12:00:00Z ",
            "2026-02-29",
            "2026-13-01",
            "2026-5-15",
            "2026-05-1é",
            "10000-01-01",
            "+10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "0000-12-31",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59-23:59",
            "infinity",
        ] {
            assert_eq!(text.parse::<Instant>().expect_err(text).term(), "filter_value");
        }
    }

    #[test]
    fn so_long_ago_is_a_time_whatever_its_length() {
        for (text, seconds) in [("2h", 7_200), ("90s", 90), ("1000000000s", 1_000_000_000)] {
            for read in [text.parse(), Instant::end(text)] {
                let ago: Duration = OffsetDateTime::now_utc() - read.map(Instant::time).expect(text);
                assert!((ago - Duration::seconds(seconds)).abs() < Duration::minutes(1), "{text}: {ago}");
            }
        }
        assert_eq!(Instant::end("2026-05-15").expect("a date").to_string(), "2026-05-15T23:59:59.999999Z");
    }

    #[test]
    fn a_typed_time_that_has_no_form_becomes_the_first_or_last_one_that_has() {
        let early = datetime!(-0044-03-15 12:00 UTC);
        assert_eq!(Instant::new(early).to_string(), "0001-01-01T00:00:00.000000Z");
        // In UTC this is a day later.
        let late = datetime!(9999-12-31 23:59:59 -23:00);
        assert_eq!(Instant::new(late).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(
            Instant::new(datetime!(0001-01-01 00:00 +23:00)).to_string(),
            "0001-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn the_ends_of_a_window_are_as_they_are_now() {
        let now = datetime!(2026-05-15 12:00 UTC);
        let (from, to) = (instant("2026-05-14"), instant("2026-05-16"));
        let last = |text: &str| Window::Last(text.parse().expect(text));
        for (window, ends) in [
            (Window::Everything, (None, None)),
            (last("24h"), (Some(datetime!(2026-05-14 12:00 UTC)), None)),
            (Window::Between { from: Some(from), to: None }, (Some(from.time()), None)),
            (Window::Between { from: None, to: Some(to) }, (None, Some(to.time()))),
            (Window::Between { from: Some(from), to: Some(to) }, (Some(from.time()), Some(to.time()))),
        ] {
            assert_eq!(window.ends(now), ends, "{window:?}");
        }
        let no_such_time = datetime!(-9999-01-01 00:00 UTC);
        assert_eq!(last("1s").ends(no_such_time), (None, None), "before all times is from the beginning");
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_refused() {
        let (early, late) = (Some(instant("2026-05-14")), Some(instant("2026-05-15")));
        assert_eq!(
            Window::Between { from: late, to: early }.check().map_err(|error| error.term()),
            Err("filter_combination")
        );
        assert_eq!(Window::Between { from: early, to: early }.check(), Ok(()), "both ends belong to it");
        assert_eq!(Window::Between { from: early, to: late }.check(), Ok(()));
    }

    #[test]
    fn two_open_ends_are_everything() {
        let open = Window::Between { from: None, to: None };
        assert_eq!(open, Window::Everything);
        assert_ne!(open, Window::Last("1s".parse().expect("a second")));
        assert_eq!(std::collections::HashSet::from([open, Window::Everything]).len(), 1);
    }

    proptest! {
        #[test]
        fn every_span_and_time_survives_being_written(seconds in 1_u32.., micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            let span = Span::from_seconds(seconds).expect("is not zero");
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).expect("has a form");
            prop_assert_eq!(Instant::new(time).time(), time);
            prop_assert_eq!(Instant::new(time).to_string().parse(), Ok(Instant::new(time)));
        }

        #[test]
        fn no_text_makes_the_reading_of_a_time_panic(text in "[-+:TZ .0-9]{0,32}|\\PC{0,12}") {
            if let Ok(instant) = text.parse::<Instant>() {
                prop_assert_eq!(instant.to_string().parse(), Ok(instant));
            }
        }
    }
}
