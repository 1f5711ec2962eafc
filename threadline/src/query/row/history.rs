//! The history of a row, page by page.

use serde::Serialize;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use super::super::{Cursor, Filter, From, Window, page::check_size, serialize, statement::Statement};
use super::{
    ReadError, Reader, Row,
    cursor::Point,
    entry::{self, ACTION, CHANGE, Change, TRANSACTION},
    events::Event,
    image,
    lineage::{KeySpan, Segment},
    reading::Reading,
    source::{Source, of_source, push_sources},
};
use crate::telemetry;

/// The number of changes of a page, unless said otherwise.
pub const HISTORY_SIZE: u16 = 200;

/// Which page of a row's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPage {
    /// Changes at most, 1 to [`PAGE_SIZE_MAX`](super::super::PAGE_SIZE_MAX).
    pub size: u16,
    /// From where.
    pub from: From,
    /// When.
    pub window: Window,
}

impl Default for RowPage {
    fn default() -> Self {
        Self { size: HISTORY_SIZE, from: From::Newest, window: Window::Everything }
    }
}

/// Changes of a row, the newest first, whichever direction was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct RowHistory {
    /// The row.
    pub row: Row,
    /// Its changes.
    pub changes: Vec<Change>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
    /// For the page of older changes; none where there are none.
    #[serde(serialize_with = "serialize::text")]
    pub older: Option<Cursor>,
    /// For the page of newer changes; there may be none yet.
    #[serde(serialize_with = "serialize::text")]
    pub newer: Option<Cursor>,
    /// The keys that the row has had, the one that was asked for first.
    pub keys: Vec<KeySpan>,
    /// Whether its key was changed more often than was followed.
    pub has_more_keys: bool,
}

/// A part of the changes of segments, in one direction.
#[derive(Debug, Clone)]
pub(super) struct Part<'p> {
    pub(super) is_older: bool,
    pub(super) cursor: Option<&'p Cursor>,
    pub(super) ends: (Option<OffsetDateTime>, Option<OffsetDateTime>),
    /// Not later than this, as PostgreSQL reads it.
    pub(super) at: Option<&'p str>,
    /// Not what has come since, as PostgreSQL reads it.
    pub(super) begun: Option<&'p str>,
    pub(super) limit: i64,
}

impl Reader {
    /// What happened to a row: changes under its key, and under the keys that it had before and has had since, as far as changes say so.
    /// Changes of other rows that have had its key are part of it, as they are in the Elixir library.
    ///
    /// # Errors
    /// When the size or the cursor cannot be used, and what the database says.
    pub async fn row_history(&self, row: &Row, page: &RowPage) -> Result<RowHistory, ReadError> {
        check_size(page.size, "changes")?;
        Filter::default().within(page.window).check()?;
        let (is_older, cursor) = match &page.from {
            From::Newest => (true, None),
            From::OlderThan(cursor) => (true, Some(cursor)),
            From::NewerThan(cursor) => (false, Some(cursor)),
        };
        if cursor.is_some_and(Cursor::is_by_unit) {
            let reason = "the cursor is of another order: give it with the question that it came with";
            return Err(ReadError::unusable("invalid_cursor", reason));
        }
        let mut reading = Reading::begin(self, None).await?;
        let lineage = reading.lineage(row).await?;
        let part = Part {
            is_older,
            cursor,
            ends: page.window.ends(OffsetDateTime::now_utc()),
            at: None,
            begun: None,
            limit: i64::from(page.size) + 1,
        };
        let mut changes = reading.changes(&row.sources, &lineage.segments, &part).await?;
        let has_more = changes.len() > usize::from(page.size);
        changes.truncate(page.size.into());
        // A reader that gives a cursor knows of the rest.
        if has_more && cursor.is_none() {
            telemetry::row_history_truncated(changes.len());
        }
        let ahead = changes.last().map(cursor_of);
        let behind = changes.first().map(cursor_of).or_else(|| cursor.cloned());
        let (older, newer) = if is_older {
            (ahead.filter(|_| has_more), behind)
        } else {
            changes.reverse();
            (behind, ahead.or_else(|| cursor.cloned()))
        };
        let keys = lineage.segments.iter().map(Segment::span).collect();
        Ok(RowHistory {
            row: row.clone(),
            changes,
            has_more,
            older,
            newer,
            keys,
            has_more_keys: lineage.has_more,
        })
    }

    pub(super) fn changes_statement(
        &self,
        sources: &[Source],
        segments: &[Segment],
        part: &Part<'_>,
    ) -> Statement {
        let order = if part.is_older { "desc" } else { "asc" };
        let mut statement = Statement::new(format!(
            "select {CHANGE}, {TRANSACTION}, {ACTION} from (select distinct on (c.captured_at, c.id) c.* from "
        ));
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (");
        for (number, segment) in segments.iter().enumerate() {
            statement.push(if number == 0 { "" } else { " union all " });
            self.push_segment(sources, segment, "table_pk", part, &mut statement);
            if segment.has_departures {
                statement.push(" union all ");
                self.push_segment(sources, segment, "key_before", part, &mut statement);
            }
        }
        statement
            .push(&format!(") c order by c.captured_at {order}, c.id {order} limit "))
            .bind(part.limit)
            .push(") c");
        self.scope.push_joins(&self.schema, &mut statement);
        statement.push(&format!(" order by c.captured_at {order}, c.id {order}"));
        statement
    }

    pub(super) fn push_segment(
        &self,
        sources: &[Source],
        segment: &Segment,
        column: &str,
        part: &Part<'_>,
        statement: &mut Statement,
    ) {
        statement.push("(select c.*");
        self.push_visible(statement);
        statement
            .push(of_source(sources))
            .push(&format!(" and c.{column} = "))
            .bind(image::key_json(&segment.key))
            .push("::jsonb");
        if let Some(low) = &segment.low {
            // A segment that begins with the row's own arrival has it; what another row left with is filed elsewhere.
            push_bound(" and (c.captured_at, c.position) >= (", low, statement);
            statement.push(")");
        }
        if let Some(high) = &segment.high {
            push_bound(" and ((c.captured_at, c.position) < (", high, statement);
            // Where a trigger of the host's changes the key, the insert that it reacts to is captured later.
            statement
                .push(") or c.op = 'insert' and c.transaction_id = ")
                .bind(high.transaction_id)
                .push(")");
        }
        let (from, to) = part.ends;
        for (time, comparison) in [(from, ">="), (to, "<=")] {
            if let Some(time) = time {
                statement.push(&format!(" and c.captured_at {comparison} ")).bind(time);
            }
        }
        if let Some(at) = part.at {
            statement.push(" and c.captured_at <= ").bind(at).push("::timestamptz");
        }
        if let Some(begun) = part.begun {
            push_not_since("captured_at", begun, statement);
        }
        if let Some(cursor) = part.cursor {
            let comparison = if part.is_older { "<" } else { ">" };
            statement
                .push(&format!(" and (c.captured_at, c.id) {comparison} ("))
                .bind(&cursor.entry.at)
                .push("::timestamptz, ")
                .bind(cursor.entry.id)
                .push(")");
        }
        let order = if part.is_older { "desc" } else { "asc" };
        statement
            .push(&format!(" order by c.captured_at {order}, c.id {order} limit "))
            .bind(part.limit)
            .push(")");
    }
}

/// Pushes that a row `c` has not come since a time. What says a time that is still to come may have been there before.
pub(crate) fn push_not_since(column: &str, begun: &str, statement: &mut Statement) {
    statement.push(&format!(" and not (c.{column} > ")).bind(begun);
    statement.push(&format!("::timestamptz and c.{column} <= clock_timestamp())"));
}

fn push_bound(comparison: &str, event: &Event, statement: &mut Statement) {
    statement.push(comparison).bind(&event.at_text).push("::timestamptz, ").bind(event.position);
}

/// The place of a change in a history.
pub(super) fn cursor_of(change: &Change) -> Cursor {
    Cursor { unit: None, entry: Point::new(change.captured_at, &change.captured_text, change.id) }
}

impl Reading<'_> {
    /// Changes of segments, in the direction of the part.
    pub(super) async fn changes(
        &mut self,
        sources: &[Source],
        segments: &[Segment],
        part: &Part<'_>,
    ) -> Result<Vec<Change>, ReadError> {
        let statement = self.reader.changes_statement(sources, segments, part);
        let rows: Vec<PgRow> = self.fetch_all(&statement).await?;
        Ok(rows.iter().map(entry::change).collect::<Result<_, _>>()?)
    }
}
