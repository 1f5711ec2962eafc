//! A snapshot of PostgreSQL, as `pg_current_snapshot()` prints it: `xmin:xmax:xip,…`.

use std::{fmt, str::FromStr};

use super::statement::Statement;

/// The part of the number of a captured transaction that a cluster gives out: where a restore into another cluster makes numbers come
/// again, they are 2^48 further.
pub(super) const NUMBER: i64 = (1 << 48) - 1;

/// Which transactions are visible: all below `xmin`, and those below `xmax` that are not running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    oldest: i64,
    next: i64,
    running: Vec<i64>,
}

impl Snapshot {
    /// Nothing from here on is visible.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Whether what this transaction wrote is visible.
    pub(super) fn sees(&self, number: i64) -> bool {
        number < self.oldest || (number < self.next && !self.running.contains(&number))
    }

    /// What is running, as an array of PostgreSQL's: under these numbers, and under those of as many restores.
    pub(super) fn running_text(&self, restores: i64) -> String {
        let all = self
            .running
            .iter()
            .flat_map(|number| (0..=restores).map(move |restore| number + (restore << 48)));
        format!("{{{}}}", all.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
    }

    fn list(&self) -> String {
        self.running.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
    }
}

impl FromStr for Snapshot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        let (oldest, next) = (number()?, number()?);
        let running = match parts.next() {
            None => return Err(()),
            Some("") => Vec::new(),
            Some(list) => list.split(',').map(str::parse).collect::<Result<_, _>>().map_err(drop)?,
        };
        // As the server prints them: rising, and with room for what a restore adds.
        let is_rising = running.windows(2).all(|pair: &[i64]| pair[0] < pair[1])
            && running.iter().all(|one| (oldest..next).contains(one));
        if parts.next().is_some() || oldest < 1 || oldest > next || next >= 1 << 48 || !is_rising {
            return Err(());
        }
        Ok(Self { oldest, next, running })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.oldest, self.next, self.list())
    }
}

/// That a row was visible in a snapshot, by the number of its transaction. A number that another cluster gave out, before a restore, says
/// nothing here; such a row was there. So was one without a number, which is older than the column.
pub(super) fn push_visible(alias: &str, snapshot: &str, statement: &mut Statement) {
    statement
        .push(&format!(
            "({alias}.txid is null or pg_visible_in_snapshot(({alias}.txid & {NUMBER})::text::xid8, "
        ))
        .bind(snapshot)
        .push("::pg_snapshot) or not ");
    push_written_here(
        alias,
        |statement| {
            statement.push("pg_snapshot_xmax(").bind(snapshot).push("::pg_snapshot)::text::int8");
        },
        statement,
    );
    statement.push(")");
}

/// That a row was written by the transaction that has its number, and not restored from another cluster. A row knows the last 32 bits of
/// the transaction that wrote it, or of its savepoint, which has a later number; they are less than half a turn away from `next`. What was
/// restored was written before its number was given out here.
pub(super) fn push_written_here(alias: &str, next: impl Fn(&mut Statement), statement: &mut Statement) {
    next(statement.push("("));
    next(statement.push(&format!(" + (({alias}.xmin::text::int8 - ")));
    statement.push(&format!(
        " + (1::int8 << 62) + (1::int8 << 31)) & 4294967295) - 2147483648 >= ({alias}.txid & {NUMBER}))"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_is_printed() {
        for text in ["10:20:10,14,15", "10:20:", "10:10:"] {
            assert_eq!(text.parse::<Snapshot>().map(|one| one.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "10:20", "a:b:", "20:10:", "10:20:1,", "10:20:1:2"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}
