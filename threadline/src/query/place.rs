//! Where an entry stands among others.

use std::cmp::Ordering;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Entry, cursor::Point};

/// Where an entry stands: within its unit, which is a transaction or an action, where there are units.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) unit: Option<(Point, OffsetDateTime)>,
    pub(super) entry: (Point, OffsetDateTime),
}

/// What the entries of a stream are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// By nothing: each stands at its own time.
    None,
    /// By its transaction; an action stands alone.
    Transaction,
    /// By the action that it is linked to.
    Action,
}

impl Place {
    pub(super) fn of(entry: &Entry, unit: Unit) -> Self {
        let at = entry.at();
        let text = match entry {
            Entry::Change(change) => &change.captured_text,
            Entry::Action(linked) | Entry::Event(linked) => &linked.action.inserted_text,
        };
        let point = (Point::new(at, text, entry.id()), at);
        let unit = match (unit, entry) {
            (Unit::None, _) => None,
            (Unit::Transaction, Entry::Change(change)) => change
                .transaction
                .as_ref()
                .map(|t| (Point::new(t.occurred_at, &t.occurred_text, t.id), t.occurred_at)),
            (Unit::Action, Entry::Change(change)) => change
                .action
                .as_ref()
                .map(|a| (Point::new(a.inserted_at, &a.inserted_text, a.id), a.inserted_at)),
            (_, Entry::Action(_) | Entry::Event(_)) => Some(point.clone()),
        };
        Self { unit, entry: point }
    }

    /// A place behind everything of a unit.
    pub(super) fn of_unit(at: OffsetDateTime, text: &str, id: Uuid, unit: Unit) -> Self {
        let point = (Point::new(at, text, id), at);
        match unit {
            Unit::None => Self { unit: None, entry: point },
            _ => Self { unit: Some(point.clone()), entry: point },
        }
    }

    /// The time of its unit, or its own where there are none.
    pub(super) fn leading_time(&self) -> OffsetDateTime {
        self.unit.as_ref().map_or(self.entry.1, |(_, at)| *at)
    }

    fn key(&self) -> (Option<(OffsetDateTime, Uuid)>, OffsetDateTime, Uuid) {
        let key = |(point, at): &(Point, OffsetDateTime)| (*at, point.id);
        let (at, id) = key(&self.entry);
        (self.unit.as_ref().map(key), at, id)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
