//! When: from now backwards, or between two times.

use std::{fmt, str::FromStr};

use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::FilterError;

/// A part of time. Both ends belong to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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

/// A length of time in the largest unit that holds it: `90s`, `15m`, `24h`, `7d`, `2w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    seconds: u32,
}

/// A time, with an offset and at most six decimals. A date without a time is its first moment, in UTC.
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

    pub(super) fn check(self) -> Result<(), FilterError> {
        match self {
            Self::Between { from: Some(from), to: Some(to) } if from > to => {
                Err(FilterError::Combination("from is later than to"))
            }
            _ => Ok(()),
        }
    }
}

const UNITS: [(char, u32); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl FromStr for Span {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refused = || FilterError::value("last", text, "a length such as 90s, 15m, 24h, 7d or 2w");
        let (unit, factor) =
            UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit)).ok_or_else(refused)?;
        let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u32 = number.and_then(|digits| digits.parse().ok()).ok_or_else(refused)?;
        let seconds = number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(refused)?;
        Ok(Self { seconds })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.into_iter().find(|(_, factor)| self.seconds % factor == 0).unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.seconds / factor)
    }
}

impl Instant {
    /// A time, cut to microseconds, as PostgreSQL has them.
    #[must_use]
    pub fn new(time: OffsetDateTime) -> Self {
        let time = time.to_offset(UtcOffset::UTC);
        Self(time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time))
    }

    /// The time.
    #[must_use]
    pub fn time(self) -> OffsetDateTime {
        self.0
    }
}

impl FromStr for Instant {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        const EXPECTED: &str = "a date such as 2026-05-15, or a time with its offset such as 2026-05-15T12:00:00Z";
        let date = format!("{text}T00:00:00Z");
        let text_or_date = if text.len() == 10 { date.as_str() } else { text };
        // A space where RFC 3339 has a T, as PostgreSQL prints times.
        let joined = text_or_date.replacen(' ', "T", 1);
        OffsetDateTime::parse(&joined, &Rfc3339)
            .ok()
            .filter(|time| (1..=9_999).contains(&time.to_offset(UtcOffset::UTC).year()))
            .map(Self::new)
            .ok_or_else(|| FilterError::value("from and to", text, EXPECTED))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::super::time_text(self.0))
    }
}

