//! When a key was given to a row, and when it was given up.

use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::{Names, statement::Statement};
use super::{
    ReadError, Reader,
    entry::Json,
    image::{self, RowKey},
    lives::LIVES_MAX,
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// A change of a key.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: Uuid,
    pub(super) transaction_id: Uuid,
    pub(super) from: RowKey,
    pub(super) to: RowKey,
    pub(super) at: OffsetDateTime,
    pub(super) at_text: String,
    pub(super) position: i64,
}

/// What is asked about a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe<'p> {
    pub(super) key: &'p RowKey,
    /// Up to this event, without it.
    pub(super) before: Option<&'p Event>,
    /// From this event on, without it.
    pub(super) after: Option<&'p Event>,
    pub(super) wanted: &'p [Wanted],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The key was given to a row; the newest ones.
    Arrivals,
    /// All of them, but for more than are followed.
    EveryArrival,
    /// The row got another key; the newest one.
    LastDeparture,
    /// The row got another key; the oldest one.
    FirstDeparture,
    /// All of them, but for more than are followed.
    EveryDeparture,
    /// The oldest change under the key, where it gave the row its key, as the Elixir library records that.
    Oldest,
    /// The newest change under the key, whatever it is.
    Newest,
}

/// Changes of a key that are read at once.
const ARRIVALS_MAX: i64 = 17;

/// What is known about a key.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) arrivals: Vec<Event>,
    pub(super) departure: Option<Event>,
    /// Where every one is wanted.
    pub(super) departures: Vec<Event>,
    /// The place of the newest change under the key.
    pub(super) newest: Option<(OffsetDateTime, i64)>,
}

impl Wanted {
    fn label(self) -> &'static str {
        match self {
            Self::Arrivals | Self::EveryArrival => "arrival",
            Self::LastDeparture | Self::FirstDeparture => "departure",
            Self::EveryDeparture => "departures",
            Self::Oldest => "oldest",
            Self::Newest => "newest",
        }
    }

    /// No index has the order of positions: so the small one of key changes is taken, and few rows are sorted.
    fn condition(self) -> (&'static str, &'static str, i64) {
        // More than the keys that are followed, so that it is seen where there are more.
        let every = i64::try_from(LIVES_MAX + 1).unwrap_or(i64::MAX);
        match self {
            Self::Arrivals => ("c.key_before is not null and c.table_pk", "c.position desc", ARRIVALS_MAX),
            Self::EveryArrival => ("c.key_before is not null and c.table_pk", "c.position desc", every),
            Self::LastDeparture => ("c.key_before", "c.position desc", 1),
            Self::FirstDeparture => ("c.key_before", "c.position", 1),
            Self::EveryDeparture => ("c.key_before", "c.position desc", every),
            Self::Oldest => ("c.table_pk", "c.captured_at, c.id", 1),
            Self::Newest => ("c.table_pk", "c.captured_at desc, c.id desc", 1),
        }
    }
}

impl Event {
    pub(super) fn place(&self) -> (OffsetDateTime, i64) {
        (self.at, self.position)
    }

    /// Of a row as a probe has it.
    pub(super) fn read(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let json = |index: usize| -> Result<Option<Json>, sqlx::Error> {
            let text: Option<String> = row.try_get(index)?;
            text.map(serde_json::value::RawValue::from_string)
                .transpose()
                .map_err(|error| sqlx::Error::Decode(error.into()))
        };
        let to = json(3)?.as_deref().and_then(image::key);
        let from = if let Some(before) = json(4)? {
            image::key(&before)
        } else {
            let changed: Names = row.try_get::<Option<_>, _>(8)?.unwrap_or_default();
            let values = json(9)?;
            to.clone().and_then(|key| image::key_of_values(key, &changed, values.as_deref()))
        };
        let (Some(from), Some(to)) = (from, to) else { return Ok(None) };
        Ok(Some(Self {
            id: row.try_get(1)?,
            transaction_id: row.try_get(2)?,
            from,
            to,
            at: row.try_get(5)?,
            at_text: row.try_get(6)?,
            position: row.try_get(7)?,
        }))
    }
}

impl Reading<'_> {
    /// What is known about a key. Where nothing was changed, these are a few descents of small indexes.
    pub(super) async fn probe(&mut self, sources: &[Source], probe: Probe<'_>) -> Result<Found, ReadError> {
        let statement = self.reader.probe_statement(sources, probe);
        let mut found = Found::default();
        for row in self.fetch_all(&statement).await? {
            let label: String = row.try_get(0)?;
            let place = (row.try_get(5)?, row.try_get(7)?);
            let event = Event::read(&row)?;
            match label.as_str() {
                "newest" => found.newest = found.newest.max(Some(place)),
                "departure" => found.departure = event.or(found.departure),
                "departures" => found.departures.extend(event),
                _ => found.arrivals.extend(event),
            }
        }
        self.add_silent(probe, &mut found);
        // What is both the oldest one and a key change of ours came twice.
        found.arrivals.sort_by_key(|event| std::cmp::Reverse((event.place(), event.id)));
        found.arrivals.dedup_by_key(|event| event.id);
        Ok(found)
    }
}

impl Reader {
    pub(super) fn probe_statement(&self, sources: &[Source], probe: Probe<'_>) -> Statement {
        let mut statement = Statement::new(
            "select e.label, e.id, e.transaction_id, e.table_pk::text, e.key_before::text,
                    least(greatest(e.captured_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), e.captured_at::text,
                    e.position, e.changed_fields, e.changed_from::text from ",
        );
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (");
        for (number, wanted) in probe.wanted.iter().enumerate() {
            let (column, order, limit) = wanted.condition();
            statement
                .push(if number == 0 { "" } else { " union all " })
                .push(&format!("(select '{}' as label, c.*", wanted.label()));
            self.push_visible(&mut statement);
            statement
                .push(of_source(sources))
                .push(&format!(" and {column} = "))
                .bind(image::key_json(probe.key))
                .push("::jsonb");
            for (event, comparison) in [(probe.before, "<"), (probe.after, ">")] {
                if let Some(event) = event {
                    statement
                        .push(&format!(" and (c.captured_at, c.position) {comparison} ("))
                        .bind(&event.at_text)
                        .push("::timestamptz, ")
                        .bind(event.position)
                        .push(")");
                }
            }
            statement.push(&format!(" order by {order} limit ")).bind(limit).push(")");
        }
        statement.push(") e");
        statement
    }
}
