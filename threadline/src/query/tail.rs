//! Following the timeline. What is new is decided by snapshots, never by a clock: a transaction that began long ago and commits now is new
//! now, and none is missed.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    Entry, Filter, ReadError, Reader,
    condition::{Conditions, IS_EVENT, Used},
    entry::{self, ACTION, CHANGE, TRANSACTION},
    joins::tables,
    position::Position,
    snapshot::NUMBER,
    statement::{Statement, is_canceled},
};

/// How many numbers of transactions back the newest are looked for, until there are enough of them.
const REACHES: [i64; 3] = [256, 65_536, i64::MAX];

/// Entries that one statement reads at most.
const BATCH: i64 = 1_000;

/// Between two looks, while there is something new, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A reader that follows the timeline.
#[derive(Debug, Clone)]
pub struct Tail {
    reader: Reader,
    filter: Filter,
    /// What is visible in it has been read.
    position: Position,
    /// What is being read: everything that is visible in it.
    round: Option<Round>,
}

/// What came with one look.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Transaction by transaction, in the order in which they began to write; what belongs to one in the order in which it was captured.
    pub entries: Vec<Entry>,
    /// The projection was rebuilt meanwhile, and its events are not new: those that arrived while the tables were exchanged are left out.
    pub was_rebuilt: bool,
}

/// The newest of what came with one look.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// As in a [`Batch`].
    pub entries: Vec<Entry>,
    /// Others came with them, or may have: older ones, or those that arrived while the projection was rebuilt, or before the database was
    /// restored.
    pub has_more: bool,
}

/// What one statement reads.
#[derive(Debug, Clone)]
struct Round {
    to: Position,
    stage: Stage,
    part: Part,
}

/// Which of what is new.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// What comes behind this transaction, and this change or action of it, the oldest first.
    After(i64, i64, Uuid),
    /// The newest, so many, the newest first; none before the transaction of this number but those that were running.
    Newest { most: i64, since: i64 },
}

/// An entry with its place: its transaction's number, then a change's place in that.
type Placed = ((i64, i64, Uuid), Entry);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Changes,
    Actions,
}

impl Reader {
    /// Follows the timeline from now on. The window of the filter does not count.
    ///
    /// # Errors
    /// When the filter cannot be used, and what the database says.
    pub async fn tail(&self, filter: &Filter) -> Result<Tail, ReadError> {
        let mut connection = self.connection().await?;
        let position = Position::now(&mut connection, &self.schema).await?;
        self.tail_from(filter, position)
    }

    /// Goes on from where another tail was.
    ///
    /// # Errors
    /// When the filter cannot be used.
    pub fn tail_from(&self, filter: &Filter, position: Position) -> Result<Tail, ReadError> {
        filter.check()?;
        Ok(Tail { reader: self.clone(), filter: filter.clone(), position, round: None })
    }
}

impl Tail {
    /// Up to where everything has been handed over.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Waits until something is new. May be dropped at any time: what was not handed over comes again.
    ///
    /// # Errors
    /// What the database says. It may be called again then.
    pub async fn next(&mut self) -> Result<Batch, ReadError> {
        let mut pause = PAUSE_MIN;
        loop {
            let batch = self.poll().await?;
            if !batch.entries.is_empty() || batch.was_rebuilt {
                return Ok(batch);
            }
            if self.round.is_none() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// What is new at this moment, or a part of it: nothing, when there is nothing left.
    ///
    /// # Errors
    /// What the database says. It may be called again then.
    pub async fn poll(&mut self) -> Result<Batch, ReadError> {
        let mut connection = self.reader.connection().await?;
        let mut batch = Batch::default();
        // Nothing is remembered as read before it is handed over.
        let mut next = self.round.clone();
        loop {
            let round = if let Some(round) = next {
                round
            } else {
                let to = Position::now(&mut connection, &self.reader.schema).await?;
                if to == self.position {
                    return Ok(batch);
                }
                Round { to, stage: Stage::Changes, part: Part::BEGIN }
            };
            let read = self.read(&mut connection, &round).await?;
            next = round.after_reading(&read);
            batch.was_rebuilt |= round.stage == Stage::Actions && !round.to.has_table_of(&self.position);
            batch.entries.extend(read.into_iter().map(|(_, entry)| entry));
            if next.is_none() {
                self.position = round.to;
                self.round = None;
                return Ok(batch);
            }
            if batch.entries.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX) {
                self.round = next;
                return Ok(batch);
            }
        }
    }

    /// The newest of what is new at this moment, for whoever shows what is new and not all of it: however much that is, little is read.
    ///
    /// # Errors
    /// What the database says. It may be called again then.
    pub async fn newest(&mut self, most: u16) -> Result<Newest, ReadError> {
        let mut connection = self.reader.connection().await?;
        let to = Position::now(&mut connection, &self.reader.schema).await?;
        self.newest_on(&mut connection, to, most).await
    }

    /// The same, up to where another tail of the same reader and filter is: nothing where this one is there, or further.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn newest_up_to(&mut self, to: &Position, most: u16) -> Result<Newest, ReadError> {
        if !self.position.precedes(to) {
            return Ok(Newest::default());
        }
        let mut connection = self.reader.connection().await?;
        self.newest_on(&mut connection, to.clone(), most).await
    }

    /// Goes where another tail of the same reader and filter is, whose entries up to there are shown here too.
    pub fn go_on_from(&mut self, position: Position) {
        (self.position, self.round) = (position, None);
    }

    async fn newest_on(
        &mut self,
        connection: &mut PgConnection,
        to: Position,
        most: u16,
    ) -> Result<Newest, ReadError> {
        let mut newest = Newest::default();
        if to == self.position {
            return Ok(newest);
        }
        // What of these arrived while the tables were exchanged cannot be told from what was there.
        let was_rebuilt = self.filter.has_actions() && !to.has_table_of(&self.position);
        for reach in REACHES {
            let since = self.position.next().max(to.next().saturating_sub(reach));
            let is_enough = match self.newest_since(connection, &to, since, most).await {
                Ok(found) => {
                    newest = found.0;
                    found.1
                }
                // Long ago, and rare, or one transaction with very much: what is newer than that is shown at least, and that it may not be
                // all. Who tried again would never get past it.
                Err(ReadError::Database(error)) if is_canceled(&error) => {
                    newest.has_more = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            if is_enough || since == self.position.next() {
                break;
            }
        }
        newest.has_more |= was_rebuilt || !self.position.may_precede(&to);
        self.go_on_from(to);
        Ok(newest)
    }

    /// The newest since a transaction, and of those that were running before; and whether none that is older may be among the newest: between
    /// those that were running and this transaction there may be others.
    async fn newest_since(
        &self,
        connection: &mut PgConnection,
        to: &Position,
        since: i64,
        most: u16,
    ) -> Result<(Newest, bool), ReadError> {
        let mut placed = Vec::new();
        for stage in [Stage::Changes, Stage::Actions] {
            let part = Part::Newest { most: i64::from(most) + 1, since };
            placed.extend(self.read(connection, &Round { to: to.clone(), stage, part }).await?);
        }
        // Changes before actions, in one transaction.
        placed.sort_by_key(|((txid, ..), _)| *txid);
        let most = usize::from(most);
        let surplus = placed.len().saturating_sub(most);
        let is_enough = placed.iter().filter(|((txid, ..), _)| txid & NUMBER >= since).count() > most;
        let entries = placed.into_iter().skip(surplus).map(|(_, entry)| entry).collect();
        Ok((Newest { entries, has_more: surplus > 0 }, is_enough))
    }

    async fn read(&self, connection: &mut PgConnection, round: &Round) -> Result<Vec<Placed>, ReadError> {
        let statement = match round.stage {
            Stage::Changes if self.filter.has_changes() => self.changes(round),
            // All rows of another table look new.
            Stage::Actions if self.filter.has_actions() && round.to.has_table_of(&self.position) => {
                self.actions(round)
            }
            _ => return Ok(Vec::new()),
        };
        let rows = statement.fetch_all(connection).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            let last = row.len() - 1;
            let (entry, position) = match round.stage {
                Stage::Changes => {
                    let change = entry::change(row)?;
                    let position = change.position;
                    (Entry::Change(Box::new(change)), position)
                }
                Stage::Actions => (entry::entry_of_action(row)?, 0),
            };
            read.push(((row.try_get(last)?, position, entry.id()), entry));
        }
        if matches!(round.part, Part::Newest { .. }) {
            read.reverse();
        }
        Ok(read)
    }

    fn changes(&self, round: &Round) -> Statement {
        let [changes, transactions, _] = tables(&self.reader.schema);
        let mut statement =
            Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION}, t.txid from ("));
        self.push_new("t", &transactions, round, &mut statement);
        statement.push(&format!(") t join {changes} c on c.transaction_id = t.id"));
        self.reader.scope.push_action_of_transaction(&self.reader.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        if let Part::After(txid, position, _) = round.part {
            conditions.and().push("(t.txid, c.position) > (").bind(txid).push(", ").bind(position).push(")");
        }
        conditions.of_change(&self.filter, Used::default());
        conditions.of_transaction(&self.filter, Used::default());
        conditions.of_action(&self.filter, Used::default());
        self.reader.scope.push_changes(conditions.and());
        round.part.push_order(["t.txid", "c.position"], &mut statement);
        statement
    }

    fn actions(&self, round: &Round) -> Statement {
        let [_, _, actions] = tables(&self.reader.schema);
        let mut statement =
            Statement::new(format!("select {ACTION}, {IS_EVENT}, {TRANSACTION}, a.txid from ("));
        self.push_new("a", &actions, round, &mut statement);
        statement.push(") a");
        self.reader.scope.push_transaction_of_action(&self.reader.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        if let Part::After(txid, _, id) = round.part {
            conditions.and().push("(a.txid, a.id) > (").bind(txid).push(", ").bind(id).push(")");
        }
        conditions.of_action_itself(&self.filter, Used::default());
        self.reader.scope.push_actions(conditions.and());
        round.part.push_order(["a.txid", "a.id"], &mut statement);
        statement
    }

    fn push_new(&self, alias: &str, table: &str, round: &Round, statement: &mut Statement) {
        statement.push(&format!("select {alias}.* from {table} {alias} where "));
        let since = match round.part {
            Part::After(..) => self.position.next(),
            Part::Newest { since, .. } => since,
        };
        self.position.push_is_new(&round.to, since, alias, statement);
    }
}

impl Round {
    /// What comes after this statement; none after the last one.
    fn after_reading(&self, read: &[Placed]) -> Option<Self> {
        let is_full = i64::try_from(read.len()).is_ok_and(|read| read >= BATCH);
        match (read.last(), self.stage) {
            (Some(((txid, position, id), _)), _) if is_full => {
                Some(Self { part: Part::After(*txid, *position, *id), ..self.clone() })
            }
            (_, Stage::Changes) => Some(Self { stage: Stage::Actions, part: Part::BEGIN, ..self.clone() }),
            (_, Stage::Actions) => None,
        }
    }
}

impl Part {
    const BEGIN: Self = Self::After(0, i64::MIN, Uuid::nil());

    fn push_order(self, columns: [&str; 2], statement: &mut Statement) {
        let (way, limit) = match self {
            Self::After(..) => ("", BATCH),
            Self::Newest { most, .. } => (" desc", most),
        };
        let [first, second] = columns;
        statement.push(&format!(" order by {first}{way}, {second}{way} limit ")).bind(limit);
    }
}
