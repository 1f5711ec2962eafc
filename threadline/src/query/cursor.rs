//! The page cursor: where a page ends, as a text that fits into a URL.

use std::{fmt, str::FromStr};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Place, statement::Statement};

/// A place between two entries of a timeline. It stays where it is whatever is written, and is good for the filter that it was made with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The transaction or action that the entry belongs to, where entries are in the order of these.
    pub(super) unit: Option<Point>,
    /// The entry.
    pub(super) entry: Point,
}

/// A time and an id, in the order of both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Point {
    /// As PostgreSQL reads it.
    pub(super) at: String,
    pub(super) id: Uuid,
}

/// No cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cursor: give the one that came with a page, or none to begin")]
pub struct CursorError(String);

/// What separates the parts; nothing has to be escaped in a URL.
const SEPARATOR: char = '~';

impl Cursor {
    pub(super) fn new(place: &Place) -> Self {
        Self { unit: place.unit.as_ref().map(|(point, _)| point.clone()), entry: place.entry.0.clone() }
    }

    /// The time of its unit, or its own; none where the driver cannot hold it.
    pub(super) fn leading_time(&self) -> Option<OffsetDateTime> {
        let point = self.unit.as_ref().unwrap_or(&self.entry);
        OffsetDateTime::parse(&point.at, &Rfc3339).ok()
    }

    /// Whether it leads through entries in the order of their transactions or actions.
    #[must_use]
    pub fn is_by_unit(&self) -> bool {
        self.unit.is_some()
    }
}

impl Point {
    /// Pushes it, to be compared with a time and an id.
    pub(super) fn push(&self, statement: &mut Statement) {
        statement.push("(").bind(&self.at).push("::timestamptz, ").bind(self.id).push(")");
    }

    /// `text` is what PostgreSQL prints of the time. What the driver cannot hold keeps that form.
    pub(super) fn new(at: OffsetDateTime, text: &str, id: Uuid) -> Self {
        let is_clamped = !(2..=9_998).contains(&at.year());
        Self { at: if is_clamped { text.to_owned() } else { super::time_text(at) }, id }
    }
}

/// Microseconds since 1970, or what PostgreSQL prints.
fn encode(at: &str) -> String {
    match at.strip_suffix('Z').and_then(|_| OffsetDateTime::parse(at, &Rfc3339).ok()) {
        Some(time) => (time.unix_timestamp_nanos() / 1_000).to_string(),
        None => at.replace(' ', "_"),
    }
}

fn decode(text: &str) -> Option<String> {
    if let Ok(micros) = text.parse::<i64>() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
        return Some(super::time_text(time));
    }
    let is_plain = |c: char| c.is_ascii_digit() || "-+:._BCinfty".contains(c);
    (!text.is_empty() && text.len() <= 40 && text.chars().all(is_plain)).then(|| text.replace('_', " "))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unit) = &self.unit {
            write!(f, "{}{SEPARATOR}{}{SEPARATOR}", encode(&unit.at), unit.id.simple())?;
        }
        write!(f, "{}{SEPARATOR}{}", encode(&self.entry.at), self.entry.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let refused = || CursorError(text.chars().take(200).collect());
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        let point = |at: &str, id: &str| Some(Point { at: decode(at)?, id: Uuid::try_parse(id).ok()? });
        match parts[..] {
            [at, id] => point(at, id).map(|entry| Self { unit: None, entry }),
            [unit_at, unit_id, at, id] => point(unit_at, unit_id)
                .zip(point(at, id))
                .map(|(unit, entry)| Self { unit: Some(unit), entry }),
            _ => None,
        }
        .ok_or_else(refused)
    }
}
