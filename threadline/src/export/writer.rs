//! The thread that renders what is read and writes it, while the next of it is read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::{
    ExportError,
    manifest::Counted,
    output::{Output, Written},
    render::Renderer,
    run::OnProgress,
};
use crate::query::{Ends, Entry, Kind, Stretch, Transaction, WholePosition};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes at which a part ends, behind the entry that reaches them.
const PART_BYTES: u64 = 16 << 20;

/// What the thread is sent. Without an end, reading has failed or was left.
pub(super) enum Message {
    Stretch(Stretch),
    End,
}

impl From<Stretch> for Message {
    fn from(stretch: Stretch) -> Self {
        Self::Stretch(stretch)
    }
}

pub(super) struct Writer {
    pub(super) renderer: Renderer,
    pub(super) output: Output,
    pub(super) ends: Ends,
    /// Up to where entries are in the output.
    pub(super) position: WholePosition,
    pub(super) max_rows: Option<u64>,
    pub(super) on_progress: Option<OnProgress>,
    /// Entries so far, for whoever waits for the thread.
    pub(super) rows: Arc<AtomicU64>,
}

/// How it ended.
pub(super) struct Finished {
    pub(super) written: Written,
    /// There was more than was wanted.
    pub(super) truncated: bool,
}

impl Writer {
    /// Writes until the end, or until there is enough; none when reading failed before.
    pub(super) fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
    ) -> Result<Option<Finished>, ExportError> {
        let mut text = String::with_capacity(WRITE_BYTES + (64 << 10));
        if self.output.bytes() == 0 {
            self.renderer.begin(&mut text);
        }
        let truncated = loop {
            let has_room = match messages.blocking_recv() {
                None => return Ok(None),
                Some(Message::End) => break false,
                Some(Message::Stretch(Stretch::Library(mut rows))) => {
                    self.each(&mut rows, row, |_, rows, position| Ends::pass_rows(rows, position), &mut text)?
                }
                Some(Message::Stretch(Stretch::Entries(mut entries))) => self.each(
                    &mut entries,
                    entry,
                    |ends, entries, position| {
                        ends.pass_entries(entries, position);
                        Ok(())
                    },
                    &mut text,
                )?,
                // No position leads behind one: an archive is never gone on with.
                Some(Message::Stretch(Stretch::Transactions(mut transactions))) => {
                    self.each(&mut transactions, transaction, |_, _, _| Ok(()), &mut text)?
                }
            };
            if !has_room {
                break true;
            }
            self.rows.store(self.output.total(), Ordering::Relaxed);
            if let Some(on_progress) = &self.on_progress {
                on_progress(self.output.total(), self.output.bytes());
            }
        };
        // Whoever reads need not go on.
        drop(messages);
        self.renderer.end(&mut text)?;
        self.output.write(text.as_bytes())?;
        self.output.write(&self.renderer.take_bytes())?;
        self.rows.store(self.output.total(), Ordering::Relaxed);
        Ok(Some(Finished { written: self.output.finish()?, truncated }))
    }

    /// Whether there is room for more behind them.
    fn each<T>(
        &mut self,
        entries: &mut [T],
        render: Render<T>,
        pass: fn(Ends, &[T], &mut WholePosition) -> Result<(), sqlx::Error>,
        text: &mut String,
    ) -> Result<bool, ExportError> {
        let mut passed = 0;
        for n in 0..entries.len() {
            if self.max_rows.is_some_and(|max_rows| self.output.total() >= max_rows) {
                return Ok(false);
            }
            let (counted, at) = render(&mut self.renderer, &mut entries[n], text)?;
            self.output.count(counted, at);
            // Of a table they come a group of rows at a time, and no row is kept back then.
            let bytes = self.renderer.take_bytes();
            if !bytes.is_empty() {
                self.output.write(&bytes)?;
            }
            let is_end = self.output.part_bytes() + text.len() as u64 >= PART_BYTES;
            if is_end || text.len() >= WRITE_BYTES {
                self.output.write(text.as_bytes())?;
                text.clear();
            }
            if is_end {
                pass(self.ends, &entries[passed..=n], &mut self.position)?;
                passed = n + 1;
                self.output.end_part(&self.position)?;
            }
        }
        pass(self.ends, &entries[passed..], &mut self.position)?;
        Ok(true)
    }
}

/// Appends an entry to the text, and says what it was and when.
type Render<T> = fn(&mut Renderer, &mut T, &mut String) -> Result<(Counted, OffsetDateTime), ExportError>;

fn row(
    renderer: &mut Renderer,
    row: &mut PgRow,
    text: &mut String,
) -> Result<(Counted, OffsetDateTime), ExportError> {
    Ok((Counted::Entry(Kind::Change), renderer.row(row, text)?))
}

fn entry(
    renderer: &mut Renderer,
    entry: &mut Entry,
    text: &mut String,
) -> Result<(Counted, OffsetDateTime), ExportError> {
    renderer.entry(entry, text)?;
    Ok((Counted::Entry(entry.kind()), entry.at()))
}

fn transaction(
    renderer: &mut Renderer,
    transaction: &mut Transaction,
    text: &mut String,
) -> Result<(Counted, OffsetDateTime), ExportError> {
    renderer.transaction(transaction, text)?;
    Ok((Counted::Transaction, transaction.occurred_at))
}
