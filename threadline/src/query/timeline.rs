//! Pages: two streams, of changes and of actions, that are merged.

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Cursor, Entry, Filter, From, Page, PageRequest, ReadError, Reader, Statement,
    direction::Direction,
    entry,
    library_row::Columns,
    page,
    place::{Place, Unit},
    plan::{self, Driver},
    resolve, stop,
    streams::Ask,
};

/// Rows that one statement visits at most.
const VISITED_AT_ONCE: i64 = 2_000;

/// What a stream has brought.
struct Stretch {
    entries: Vec<(Place, Entry)>,
    /// Everything up to here is known; none where the stream has ended.
    horizon: Option<Place>,
    /// The horizon is its last entry.
    is_full: bool,
}

impl Reader {
    /// A page of the timeline.
    ///
    /// # Errors
    /// When the filter, the size or the cursor cannot be used, and what the database says.
    pub async fn page(&self, filter: &Filter, request: &PageRequest) -> Result<Page, ReadError> {
        check(filter, request)?;
        let mut connection = self.connection().await?;
        let filter = resolve::key(&mut connection, self, filter).await?;
        let mut ask = self.ask(&mut connection, &filter, request).await?;
        let mut walk = Walk::new(request, &ask);
        while walk.is_open() {
            walk.go_on(&mut connection, &mut ask).await?;
        }
        Ok(walk.into_page(&request.from))
    }

    /// The statements that [`Self::page`] begins with.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub async fn statements(
        &self,
        filter: &Filter,
        request: &PageRequest,
    ) -> Result<Vec<Statement>, ReadError> {
        check(filter, request)?;
        let mut connection = self.connection().await?;
        let filter = resolve::key(&mut connection, self, filter).await?;
        let mut ask = self.ask(&mut connection, &filter, request).await?;
        let walk = Walk::new(request, &ask);
        ask.visited = Some(walk.visits(&ask, ask.is_exact_for_changes()));
        let changes = ask.changes();
        ask.visited = Some(walk.visits(&ask, ask.is_exact_for_actions()));
        Ok([changes, ask.actions()].into_iter().flatten().collect())
    }

    async fn ask<'a>(
        &'a self,
        connection: &mut PgConnection,
        filter: &'a Filter,
        request: &PageRequest,
    ) -> Result<Ask<'a>, ReadError> {
        let (direction, cursor) = match &request.from {
            From::Newest => (Direction::Older, None),
            From::OlderThan(cursor) => (Direction::Older, Some(cursor.clone())),
            From::NewerThan(cursor) => (Direction::Newer, Some(cursor.clone())),
        };
        let driver =
            plan::driver(connection, &self.schema, filter, request.by_transaction, cursor.as_ref()).await?;
        if cursor.as_ref().is_some_and(|cursor| cursor.is_by_unit() != (driver != Driver::Changes)) {
            let reason = "the cursor is of another order: give it with the filter that it came with";
            return Err(ReadError::unusable("invalid_cursor", reason));
        }
        Ok(Ask {
            schema: &self.schema,
            scope: &self.scope,
            filter,
            ends: filter.window.ends(OffsetDateTime::now_utc()),
            driver,
            direction,
            columns: Columns::Entry,
            visible_in: None,
            cursor,
            limit: i64::from(request.size) + 1,
            visited: Some(i64::from(request.size) + 1),
        })
    }
}

fn check(filter: &Filter, request: &PageRequest) -> Result<(), ReadError> {
    filter.check()?;
    page::check_size(request.size, "entries")
}

/// A page in the making.
struct Walk {
    size: usize,
    unit: Unit,
    direction: Direction,
    /// Whether it may come to rows that are not for whoever asks.
    is_limited: bool,
    /// The time from which it goes, as far as there is one.
    start: Option<OffsetDateTime>,
    /// Rows that may be visited still.
    left: i64,
    entries: Vec<(Place, Entry)>,
    changes_ended: bool,
    actions_ended: bool,
    /// Everything up to here is in `entries`.
    bound: Option<Place>,
}

impl Walk {
    fn new(request: &PageRequest, ask: &Ask<'_>) -> Self {
        Self {
            size: usize::from(request.size),
            unit: ask.driver.unit(),
            direction: ask.direction,
            is_limited: !ask.scope.is_everything(),
            start: match &ask.cursor {
                Some(cursor) => cursor.leading_time(),
                None => Some(OffsetDateTime::now_utc()),
            },
            left: i64::from(request.visited),
            entries: Vec::new(),
            changes_ended: false,
            actions_ended: false,
            bound: None,
        }
    }

    fn has_ended(&self) -> bool {
        self.changes_ended && self.actions_ended
    }

    fn is_open(&self) -> bool {
        let may_stop = || self.left <= 0 && self.stop().is_some();
        !self.has_ended() && self.entries.len() <= self.size && !may_stop()
    }

    /// Where it goes on if it stops now, as whoever asks may know it; none where that would lead nowhere.
    fn stop(&self) -> Option<Place> {
        let bound = self.bound.as_ref()?;
        if !self.is_limited {
            return Some(bound.clone());
        }
        let own = self.entries.last().map(|(place, _)| place);
        stop::resume(bound, own, self.start, self.unit, self.direction)
    }

    /// One statement for each stream that has not ended.
    async fn go_on(&mut self, connection: &mut PgConnection, ask: &mut Ask<'_>) -> Result<(), ReadError> {
        if let Some(bound) = &self.bound {
            ask.cursor = Some(Cursor::new(bound));
        }
        let mut stretches = Vec::new();
        if !self.changes_ended {
            ask.visited = Some(self.visits(ask, ask.is_exact_for_changes()));
            let stretch = match ask.changes() {
                Some(statement) => {
                    let decode =
                        |row: &PgRow| entry::change(row).map(|change| Entry::Change(Box::new(change)));
                    let end = || ask.end_of_changes();
                    self.read(connection, ask.limit, &statement, end, decode, self.unit).await?
                }
                None => Stretch { entries: Vec::new(), horizon: None, is_full: false },
            };
            self.changes_ended = stretch.horizon.is_none();
            stretches.push(stretch);
        }
        if !self.actions_ended {
            ask.visited = Some(self.visits(ask, ask.is_exact_for_actions()));
            let unit = if self.unit == Unit::None { Unit::None } else { Unit::Action };
            let stretch = match ask.actions() {
                Some(statement) => {
                    let end = || ask.end_of_actions();
                    self.read(connection, ask.limit, &statement, end, entry::entry_of_action, unit).await?
                }
                None => Stretch { entries: Vec::new(), horizon: None, is_full: false },
            };
            self.actions_ended = stretch.horizon.is_none();
            stretches.push(stretch);
        }
        self.left -= VISITED_AT_ONCE;
        self.merge(stretches);
        Ok(())
    }

    fn visits(&self, ask: &Ask<'_>, is_exact: bool) -> i64 {
        // Who may not stop yet goes on as fast as before.
        let left = if self.left > 0 { self.left } else { VISITED_AT_ONCE };
        if is_exact { ask.limit } else { VISITED_AT_ONCE.min(left).max(ask.limit) }
    }

    async fn read(
        &self,
        connection: &mut PgConnection,
        limit: i64,
        statement: &Statement,
        end: impl FnOnce() -> Statement,
        decode: impl Fn(&PgRow) -> Result<Entry, sqlx::Error>,
        unit: Unit,
    ) -> Result<Stretch, ReadError> {
        let rows = statement.fetch_all(connection).await?;
        let entries = rows
            .iter()
            .map(|row| decode(row).map(|entry| (Place::of(&entry, self.unit), entry)))
            .collect::<Result<Vec<_>, _>>()?;
        let is_full = i64::try_from(entries.len()).is_ok_and(|read| read >= limit);
        let horizon = if is_full {
            entries.last().map(|(place, _)| place.clone())
        } else {
            match end().fetch_optional(connection).await? {
                Some(row) => {
                    let (at, text, id) = (row.try_get(0)?, row.try_get::<String, _>(1)?, row.try_get(2)?);
                    Some(Place::of_unit(at, &text, id, unit))
                }
                None => None,
            }
        };
        Ok(Stretch { entries, horizon, is_full })
    }

    /// Keeps what is known to be in its place: nothing of the other stream can come before it. Each stream keeps its own order, which is the
    /// server's: it has times that are one here.
    fn merge(&mut self, stretches: Vec<Stretch>) {
        let direction = self.direction;
        let is_nearer = |one: &Place, other: &Place| match direction {
            Direction::Older => one > other,
            Direction::Newer => one < other,
        };
        self.bound = None;
        let mut bounded_by = 0;
        for (number, horizon) in stretches.iter().map(|stretch| &stretch.horizon).enumerate() {
            if let Some(horizon) = horizon
                && self.bound.as_ref().is_none_or(|bound| is_nearer(horizon, bound))
            {
                (self.bound, bounded_by) = (Some(horizon.clone()), number);
            }
        }
        let mut streams = stretches.into_iter().enumerate().map(|(number, stretch)| {
            let mut entries = stretch.entries;
            if let Some(bound) = self.bound.as_ref().filter(|_| number != bounded_by || !stretch.is_full) {
                entries.retain(|(place, _)| !is_nearer(bound, place));
            }
            entries.into_iter().peekable()
        });
        let (first, second) = (streams.next(), streams.next());
        let (mut first, mut second) =
            (first.into_iter().flatten().peekable(), second.into_iter().flatten().peekable());
        loop {
            let next = match (first.peek(), second.peek()) {
                (Some((one, _)), Some((other, _))) if is_nearer(other, one) => second.next(),
                (Some(_), _) => first.next(),
                (None, _) => second.next(),
            };
            let Some(next) = next else { break };
            self.entries.push(next);
        }
        // The stream that went further is read again from the bound.
        if self.bound.is_some() {
            (self.changes_ended, self.actions_ended) = (false, false);
        }
    }

    fn into_page(mut self, from: &From) -> Page {
        let is_full = self.entries.len() > self.size;
        let has_more = is_full || !self.has_ended();
        let stopped = if is_full || self.has_ended() { None } else { self.stop() };
        self.entries.truncate(self.size);
        let ahead = match &stopped {
            Some(bound) => Some(Cursor::new(bound)),
            None => self.entries.last().map(|(place, _)| Cursor::new(place)),
        };
        let behind = self.entries.first().map(|(place, _)| Cursor::new(place));
        let visited_to = stopped.as_ref().map(Place::leading_time);
        let mut entries: Vec<Entry> = self.entries.into_iter().map(|(_, entry)| entry).collect();
        let given = match from {
            From::Newest => None,
            From::OlderThan(cursor) | From::NewerThan(cursor) => Some(cursor.clone()),
        };
        let (older, newer) = match self.direction {
            Direction::Older => (ahead.filter(|_| has_more), behind.or(given)),
            Direction::Newer => {
                entries.reverse();
                (behind.or(given.clone()), ahead.or(given))
            }
        };
        Page { entries, has_more, older, newer, visited_to }
    }
}
