//! A snapshot round, cut into bounded pages in one order: late transactions by id, then the tail. All late ids lie below the
//! tail's, so a single [`Position`] says how far a round has come.

use crate::session::Session;
use std::collections::VecDeque;

use super::{
    entries::{self, Entry, LateTransaction},
    rounds::{Position, Round},
};

/// Reads one round, page by page.
#[derive(Debug)]
pub struct Pages {
    round: Round,
    page_rows: usize,
    /// Where the next page begins.
    after: Position,
    /// `None` until they have been looked up.
    late: Option<VecDeque<LateTransaction>>,
    tail_done: bool,
}

impl Pages {
    /// Starts at the round's own position.
    #[must_use]
    pub fn new(round: Round, page_rows: usize) -> Self {
        let after = round.resume_after.unwrap_or(Position { xid: 0, seq: -1 });
        // Without running transactions in `s` there can be no late ones: saves the look-up of most rounds.
        let late = (!round.from.has_running()).then(VecDeque::new);
        let tail_done = round.is_closed();
        Self { round, page_rows, after, late, tail_done }
    }

    /// The next page; empty when the round has been read.
    ///
    /// # Errors
    /// When the server is away. The round then continues from its stored position, with these pages forgotten.
    pub async fn next(&mut self, connection: &mut Session) -> Result<Vec<Entry>, sqlx::Error> {
        if self.tail_done {
            return Ok(Vec::new());
        }
        if self.late.is_none() {
            let Round { from, to, .. } = &self.round;
            let late =
                entries::late_transactions(connection, from, to, self.after.xid, self.page_rows).await?;
            self.late = Some(late.into());
        }
        loop {
            let late = self.late.as_mut().expect("looked up above");
            let page = match late.front().copied() {
                Some(large) if large.entries > self.page_rows => {
                    let after = if self.after.xid == large.xid {
                        self.after
                    } else {
                        Position { xid: large.xid, seq: -1 }
                    };
                    let page = entries::of_transaction(connection, after, self.page_rows).await?;
                    if page.len() < self.page_rows {
                        late.pop_front();
                    }
                    page
                }
                Some(_) => {
                    let group = take_group(late, self.page_rows);
                    entries::of_transactions(connection, &group, self.after).await?
                }
                None => {
                    // The tail begins at the first id that `s` did not know.
                    let start = Position { xid: self.round.from.xmax(), seq: -1 };
                    let page =
                        entries::tail(connection, &self.round.to, self.after.max(start), self.page_rows)
                            .await?;
                    self.tail_done = page.len() < self.page_rows;
                    page
                }
            };
            if let Some(last) = page.last() {
                self.after = last.position;
                return Ok(page);
            }
            if self.tail_done {
                return Ok(page);
            }
        }
    }
}

/// The next small transactions whose entries fit one page together.
fn take_group(late: &mut VecDeque<LateTransaction>, page_rows: usize) -> Vec<u64> {
    let mut group = Vec::new();
    let mut rows = 0;
    while let Some(next) = late.front() {
        rows += next.entries;
        if rows > page_rows && !group.is_empty() {
            break;
        }
        group.push(next.xid);
        late.pop_front();
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_transactions_share_a_page_and_never_overflow_it() {
        let sizes = [3, 4, 3, 1, 10, 2, 9];
        let mut late: VecDeque<_> =
            sizes.iter().zip(1..).map(|(&entries, xid)| LateTransaction { xid, entries }).collect();
        let mut groups = Vec::new();
        while !late.is_empty() {
            groups.push(take_group(&mut late, 10));
        }
        assert_eq!(groups, [vec![1, 2, 3], vec![4], vec![5], vec![6], vec![7]]);
    }
}
