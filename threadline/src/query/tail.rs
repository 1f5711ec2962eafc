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
    statement::Statement,
};

/// Entries that one statement reads at most.
const BATCH: i64 = 1_000;

/// Between two looks, while there is something new, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A reader that follows the timeline.
#[derive(Debug)]
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

#[derive(Debug, Clone)]
struct Round {
    to: Position,
    stage: Stage,
    /// Behind which transaction, and which change or action of it, the next statement begins.
    after: (i64, i64, Uuid),
}

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
                Round { to, stage: Stage::Changes, after: Round::BEGIN }
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

    async fn read(
        &self,
        connection: &mut PgConnection,
        round: &Round,
    ) -> Result<Vec<((i64, i64, Uuid), Entry)>, ReadError> {
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
        let (txid, position, _) = round.after;
        conditions.and().push("(t.txid, c.position) > (").bind(txid).push(", ").bind(position).push(")");
        conditions.of_change(&self.filter, Used::default());
        conditions.of_transaction(&self.filter, Used::default());
        conditions.of_action(&self.filter, Used::default());
        self.reader.scope.push_changes(conditions.and());
        statement.push(" order by t.txid, c.position limit ").bind(BATCH);
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
        let (txid, _, id) = round.after;
        conditions.and().push("(a.txid, a.id) > (").bind(txid).push(", ").bind(id).push(")");
        conditions.of_action_itself(&self.filter, Used::default());
        self.reader.scope.push_actions(conditions.and());
        statement.push(" order by a.txid, a.id limit ").bind(BATCH);
        statement
    }

    fn push_new(&self, alias: &str, table: &str, round: &Round, statement: &mut Statement) {
        statement.push(&format!("select {alias}.* from {table} {alias} where "));
        self.position.push_is_new(&round.to, alias, statement);
    }
}

impl Round {
    const BEGIN: (i64, i64, Uuid) = (0, i64::MIN, Uuid::nil());

    /// What comes after this statement; none after the last one.
    fn after_reading(&self, read: &[((i64, i64, Uuid), Entry)]) -> Option<Self> {
        let is_full = i64::try_from(read.len()).is_ok_and(|read| read >= BATCH);
        match (read.last(), self.stage) {
            (Some((last, _)), _) if is_full => Some(Self { after: *last, ..self.clone() }),
            (_, Stage::Changes) => Some(Self { stage: Stage::Actions, after: Self::BEGIN, ..self.clone() }),
            (_, Stage::Actions) => None,
        }
    }
}
