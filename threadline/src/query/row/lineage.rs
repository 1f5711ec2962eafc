//! The keys that one row has had.
//!
//! A key that an update changes is followed: backwards to where the row was before, forwards to where it is now. A triggered update of
//! ours says the key before; the Elixir library's says it where it stores values before, and only the row that has the key now can be
//! led back with it.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::serialize;
use super::{
    ReadError, Row,
    events::{Event, Probe, Wanted},
    image::RowKey,
    reading::Reading,
};

/// Key changes that are followed for one row at most.
pub const LINEAGE_MAX: usize = 16;

/// What is asked about the key of a row.
pub(super) const FIRST: [Wanted; 4] =
    [Wanted::Arrivals, Wanted::LastDeparture, Wanted::Newest, Wanted::Oldest];

/// A time in which a row had a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeySpan {
    /// The key.
    pub key: RowKey,
    /// When the row got it; `None` of the key that was asked for, whose whole history counts, and where it is not known.
    #[serde(serialize_with = "serialize::optional_time")]
    pub from: Option<OffsetDateTime>,
    /// When it got another one.
    #[serde(serialize_with = "serialize::optional_time")]
    pub to: Option<OffsetDateTime>,
}

/// Changes that belong to one row.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) key: RowKey,
    /// From this change of the key on.
    pub(super) low: Option<Event>,
    /// Up to this one, which is filed under another key.
    pub(super) high: Option<Event>,
    /// Whether the changes by which the key was given up belong to it.
    pub(super) has_departures: bool,
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct Lineage {
    pub(super) segments: Vec<Segment>,
    /// Whether there are more key changes than were followed.
    pub(super) has_more: bool,
    /// Key changes that are followed at most.
    pub(super) limit: usize,
    /// Which ones are asked for of a key that the row had before.
    pub(super) arrivals: Wanted,
}

impl Segment {
    pub(super) fn of(key: RowKey) -> Self {
        Self { key, low: None, high: None, has_departures: false }
    }

    pub(super) fn span(&self) -> KeySpan {
        KeySpan {
            key: self.key.clone(),
            from: self.low.as_ref().map(|event| event.at),
            to: self.high.as_ref().map(|event| event.at),
        }
    }
}

impl Reading<'_> {
    /// Every key of a row, that of the row first.
    pub(super) async fn lineage(&mut self, row: &Row) -> Result<Lineage, ReadError> {
        let probe = Probe { key: &row.key, before: None, after: None, wanted: &FIRST };
        let found = self.probe(&row.sources, probe).await?;
        let mut lineage = Lineage {
            segments: vec![Segment { has_departures: true, ..Segment::of(row.key.clone()) }],
            has_more: false,
            limit: LINEAGE_MAX,
            arrivals: Wanted::Arrivals,
        };
        // Under a key that was used again, what it was given up with is no longer the last that is known.
        let departure =
            found.departure.filter(|departure| found.newest.is_none_or(|newest| newest < departure.place()));
        let mut seen = HashSet::new();
        if let Some(departure) = departure {
            self.follow_forwards(row, departure, &mut lineage, &mut seen).await?;
        }
        self.follow_backwards(row, found.arrivals, &mut lineage, &mut seen).await?;
        Ok(lineage)
    }

    pub(super) async fn follow_forwards(
        &mut self,
        row: &Row,
        departure: Event,
        lineage: &mut Lineage,
        seen: &mut HashSet<Uuid>,
    ) -> Result<(), ReadError> {
        let mut next = Some(departure);
        while let Some(event) = next.take() {
            if !lineage.has_room() {
                return Ok(());
            }
            seen.insert(event.id);
            let wanted = [Wanted::FirstDeparture];
            let probe = Probe { key: &event.to, before: None, after: Some(&event), wanted: &wanted };
            let departure = self.probe(&row.sources, probe).await?.departure;
            lineage.segments.push(Segment {
                key: event.to.clone(),
                low: Some(event),
                high: departure.clone(),
                has_departures: false,
            });
            next = departure.filter(|departure| !seen.contains(&departure.id));
        }
        Ok(())
    }

    pub(super) async fn follow_backwards(
        &mut self,
        row: &Row,
        arrivals: Vec<Event>,
        lineage: &mut Lineage,
        seen: &mut HashSet<Uuid>,
    ) -> Result<(), ReadError> {
        let mut waiting = VecDeque::from(arrivals);
        while let Some(event) = waiting.pop_front() {
            if !seen.insert(event.id) {
                continue;
            }
            if !lineage.has_room() {
                return Ok(());
            }
            let wanted = [lineage.arrivals, Wanted::LastDeparture, Wanted::Oldest];
            let probe = Probe { key: &event.from, before: Some(&event), after: None, wanted: &wanted };
            let found = self.probe(&row.sources, probe).await?;
            let low = found.departure;
            // What was under the key before it was given up, was another row.
            let is_ours = |arrival: &Event| low.as_ref().is_none_or(|low| low.place() < arrival.place());
            waiting.extend(found.arrivals.into_iter().filter(is_ours));
            lineage.segments.push(Segment {
                key: event.from.clone(),
                low,
                high: Some(event),
                has_departures: false,
            });
        }
        Ok(())
    }
}

impl Lineage {
    fn has_room(&mut self) -> bool {
        self.has_more |= self.segments.len() > self.limit;
        !self.has_more
    }
}
