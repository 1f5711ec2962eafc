//! A time that a question is about, as PostgreSQL reads it.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;

use super::super::{FilterError, Instant, time_text};

/// A time: what was recorded up to then counts, that time included. It reaches as far as PostgreSQL's times do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct At(String);

/// The last year that PostgreSQL knows as a whole.
const YEAR_MAX: i32 = 294_275;

impl At {
    /// Whatever was recorded.
    #[must_use]
    pub fn latest() -> Self {
        Self("infinity".to_owned())
    }

    /// As PostgreSQL reads it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<OffsetDateTime> for At {
    fn from(time: OffsetDateTime) -> Self {
        match time.to_offset(time::UtcOffset::UTC).year() {
            ..=0 => Self("-infinity".to_owned()),
            1..=9_999 => Self(time_text(time)),
            _ => Self::latest(),
        }
    }
}

impl From<Instant> for At {
    fn from(instant: Instant) -> Self {
        instant.time().into()
    }
}

impl From<Option<OffsetDateTime>> for At {
    fn from(time: Option<OffsetDateTime>) -> Self {
        time.map_or_else(Self::latest, Self::from)
    }
}

/// A time as in a filter, `infinity`, or a time of a later year than 9999.
impl FromStr for At {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text == "infinity" {
            return Ok(Self::latest());
        }
        let error = match text.parse::<Instant>() {
            Ok(instant) => return Ok(instant.into()),
            Err(error) => error,
        };
        let Some((year, rest)) = text.split_once('-') else { return Err(error) };
        if year.len() < 5 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error);
        }
        // The rest is that of a time; the year that stands in has a 29th of February.
        let stand_in: Instant = format!("2000-{rest}").parse()?;
        // The offset may lead into the year before or after.
        let year = year.parse::<i32>().ok().and_then(|year| year.checked_add(stand_in.time().year() - 2_000));
        match year {
            Some(year @ 9_999..=YEAR_MAX) => Ok(Self(format!("{year}{}", &time_text(stand_in.time())[4..]))),
            _ => Ok(Self::latest()),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reaches_as_far_as_those_of_postgresql() {
        for (text, expected) in [
            ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00.000000Z"),
            ("2026-03-01", "2026-03-01T00:00:00.000000Z"),
            ("infinity", "infinity"),
            ("12000-02-29T01:02:03.5Z", "12000-02-29T01:02:03.500000Z"),
            ("12000-01-01T00:00:00+05:00", "11999-12-31T19:00:00.000000Z"),
            ("294276-01-01T00:00:00Z", "infinity"),
            ("99999999999999-01-01T00:00:00Z", "infinity"),
        ] {
            assert_eq!(text.parse::<At>().unwrap().as_str(), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "12000", "12000-13-01T00:00:00Z", "1x000-01-01T00:00:00Z"]
        {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
        assert_eq!(At::from(None), At::latest());
        let year_zero = OffsetDateTime::UNIX_EPOCH.replace_year(0).unwrap();
        assert_eq!(At::from(year_zero).as_str(), "-infinity");
    }
}
