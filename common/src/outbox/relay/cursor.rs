//! How far this relay has come: the reader's last stored row, and what has been acknowledged since.

use metrics::counter;

use crate::{
    database::Database,
    outbox::reader::rounds::{self, Append, Position, PublishedPosition, Round},
    process::telemetry::names,
    session::Session,
};

/// The position of the leader. It is read from the database, never kept across leaderships.
#[derive(Debug)]
pub(super) struct Cursor {
    head: Round,
    /// The highest stream position that acknowledged something.
    mark: Option<PublishedPosition>,
    /// Everything in the round has been handed over.
    finished: bool,
}

impl Cursor {
    pub(super) fn new(head: Round) -> Self {
        Self { mark: head.mark, finished: head.is_closed(), head }
    }

    /// The row that was stored last.
    pub(super) fn head(&self) -> &Round {
        &self.head
    }

    /// The highest stream position that acknowledged something.
    pub(super) fn mark(&self) -> Option<PublishedPosition> {
        self.mark
    }

    /// Whether everything in the round has been handed over.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether a restart would repeat nothing.
    pub(super) fn is_closed(&self) -> bool {
        self.head.is_closed()
    }

    /// A page of the round was acknowledged.
    pub(super) fn acknowledge(&mut self, position: Option<PublishedPosition>) {
        self.mark = later(self.mark, position);
    }

    /// All pages of the round were acknowledged.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// A row was stored that begins or closes a round.
    pub(super) fn advance(&mut self, stored: Round) {
        self.finished = stored.is_closed();
        self.head = stored;
    }

    /// The row that says: everything up to here has been handed over, and nothing is being read.
    pub(super) fn closing(&self) -> Round {
        Round {
            number: self.head.number + 1,
            from: self.head.to.clone(),
            resume_after: None,
            mark: self.mark,
            ..self.head.clone()
        }
    }

    /// The row that says how far the round has come. What was acknowledged since the round began makes the mark of `from` later,
    /// never wrong.
    fn progress(&self, after: Position) -> Round {
        Round {
            number: self.head.number + 1,
            resume_after: Some(after),
            mark: self.mark,
            ..self.head.clone()
        }
    }

    /// Stores how far the round has come; `false` if another relay stored a row first.
    ///
    /// # Errors
    /// When the server is away.
    pub(super) async fn save(
        &mut self,
        database: &Database,
        connection: &mut Session,
        after: Position,
    ) -> Result<bool, sqlx::Error> {
        let next = self.progress(after);
        match database.with_timeout(rounds::append(connection, &self.head, &next)).await? {
            Append::Written(saved) => {
                self.head = saved;
                Ok(true)
            }
            Append::NothingUnread | Append::Fenced => Ok(false),
        }
    }

    /// Another relay is ahead: what is in memory means nothing any more.
    ///
    /// # Errors
    /// When the server is away.
    pub(super) async fn reload(
        &mut self,
        database: &Database,
        connection: &mut Session,
        system_identifier: i64,
    ) -> Result<(), sqlx::Error> {
        let reader = &self.head.reader;
        counter!(names::RELAY_FENCED, "reader" => reader.clone()).increment(1);
        tracing::info!(reader, "another relay took the round first");
        let head = database.with_timeout(rounds::head(connection, reader, system_identifier)).await?;
        *self = Self::new(head);
        Ok(())
    }
}

/// The higher of two positions of one stream; a position on a newer stream replaces the older.
fn later(known: Option<PublishedPosition>, new: Option<PublishedPosition>) -> Option<PublishedPosition> {
    match (known, new) {
        (Some(known), Some(new)) if known.position.created == new.position.created => {
            Some(if known.position.sequence > new.position.sequence { known } else { new })
        }
        (known, new) => new.or(known),
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::outbox::reader::{rounds::StreamPosition, snapshot::Snapshot};

    fn position(created: i64, sequence: u64) -> PublishedPosition {
        let created = OffsetDateTime::UNIX_EPOCH + Duration::seconds(created);
        PublishedPosition { position: StreamPosition { created, sequence }, event: None }
    }

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    fn round() -> Round {
        Round {
            reader: "stream".to_owned(),
            number: 7,
            from: snapshot("10:10:"),
            to: snapshot("20:20:"),
            resume_after: Some(Position { xid: 12, seq: 3 }),
            generation: 2,
            system_identifier: 5,
            mark: Some(position(0, 100)),
        }
    }

    #[test]
    fn the_mark_rises_and_follows_to_a_newer_stream() {
        let (low, high, newer) = (position(0, 1), position(0, 2), position(1, 1));
        let table = [
            (None, None, None),
            (None, Some(low), Some(low)),
            (Some(low), None, Some(low)),
            (Some(low), Some(high), Some(high)),
            (Some(high), Some(low), Some(high)),
            (Some(high), Some(newer), Some(newer)),
        ];
        for (known, new, expected) in table {
            assert_eq!(later(known, new), expected, "{known:?} and {new:?}");
        }
    }

    #[test]
    fn a_closing_row_has_nothing_left_to_read() {
        let mut cursor = Cursor::new(round());
        assert!(!cursor.is_finished() && !cursor.is_closed());
        cursor.acknowledge(Some(position(0, 101)));
        cursor.finish();
        assert!(cursor.is_finished() && !cursor.is_closed(), "a restart reads it again until it is closed");
        let closing = cursor.closing();
        let expected = Round {
            number: 8,
            from: snapshot("20:20:"),
            resume_after: None,
            mark: Some(position(0, 101)),
            ..round()
        };
        assert_eq!(closing, expected);
        cursor.advance(closing);
        assert!(cursor.is_finished() && cursor.is_closed());
    }

    #[test]
    fn a_row_of_progress_keeps_the_snapshots_of_its_round() {
        let mut cursor = Cursor::new(round());
        cursor.acknowledge(Some(position(0, 101)));
        let after = Position { xid: 15, seq: 9 };
        let expected =
            Round { number: 8, resume_after: Some(after), mark: Some(position(0, 101)), ..round() };
        assert_eq!(cursor.progress(after), expected);
    }
}
