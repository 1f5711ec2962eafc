//! One transaction with everything that is part of it, and the transactions of an actor.

use serde::Serialize;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Action, Change, Cursor, Filter, From, Instant, PageRequest, ReadError, Reader, Transaction, Window,
    condition::Conditions,
    cursor::Point,
    entry::{self, ACTION, CHANGE, TRANSACTION},
    joins::tables,
    page,
    row::Reading,
    serialize,
    statement::Statement,
};
use crate::ActorRef;

/// Changes of a transaction that are counted for a list of transactions.
const COUNTED_MAX: i64 = 1_000;

/// A transaction, the action that it is linked to, and its changes.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionContext {
    /// The transaction.
    pub transaction: Transaction,
    /// The action; none where it is linked to none, or to one that the scope hides.
    pub action: Option<Action>,
    /// Its changes, the newest first.
    pub changes: Vec<Change>,
    /// Whether there are more.
    pub has_more: bool,
    /// For the older ones.
    #[serde(serialize_with = "serialize::text")]
    pub older: Option<Cursor>,
}

/// A transaction, in a list of many.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionSummary {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: Transaction,
    /// The action that it is linked to.
    pub action: Option<Action>,
    /// How many changes it has; 1,000 where there are more.
    pub changes: i64,
    /// The tables that it has changed, `schema.table`.
    pub tables: Vec<String>,
}

/// Transactions, the newest first.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionPage {
    /// The transactions.
    pub transactions: Vec<TransactionSummary>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
    /// For the page of older ones; none where there are none.
    #[serde(serialize_with = "serialize::text")]
    pub older: Option<Cursor>,
    /// For the page of newer ones.
    #[serde(serialize_with = "serialize::text")]
    pub newer: Option<Cursor>,
}

/// The transactions of an actor beside one of theirs.
#[derive(Debug, Clone, Serialize)]
pub struct Neighbours {
    /// The one before.
    pub previous: Option<TransactionSummary>,
    /// The one after.
    pub next: Option<TransactionSummary>,
}

/// 30 days before a time and after it; none where that leads beyond what a filter can say.
fn around(at: OffsetDateTime) -> Option<Window> {
    let days = time::Duration::days(30);
    let window = Window::Between {
        from: Some(Instant::new(at.checked_sub(days)?)),
        to: Some(Instant::new(at.checked_add(days)?)),
    };
    Filter::default().within(window).check().ok().map(|()| window)
}

impl Reader {
    /// A transaction with its changes; `None` where there is none, or the scope shows nothing of it.
    ///
    /// # Errors
    /// When the number of changes cannot be used, and what the database says.
    pub async fn transaction(
        &self,
        id: Uuid,
        changes: u16,
        older_than: Option<&Cursor>,
    ) -> Result<Option<TransactionContext>, ReadError> {
        page::check_size(changes, "entries")?;
        let mut reading = Reading::begin(self, None).await?;
        let rows = reading.fetch_all(&self.changes_of(id, changes, older_than)).await?;
        let mut changes_read = rows.iter().map(entry::change).collect::<Result<Vec<_>, _>>()?;
        let has_more = changes_read.len() > usize::from(changes);
        changes_read.truncate(changes.into());
        let older = changes_read.last().filter(|_| has_more).map(|change| Cursor {
            unit: None,
            entry: Point::new(change.captured_at, &change.captured_text, change.id),
        });
        let head = match changes_read.first() {
            Some(change) => {
                change.transaction.clone().map(|transaction| (transaction, change.action.clone()))
            }
            None => self.transaction_alone(&mut reading, id).await?,
        };
        Ok(head.map(|(transaction, action)| TransactionContext {
            transaction,
            action,
            changes: changes_read,
            has_more,
            older,
        }))
    }

    /// The statement that [`Self::transaction`] begins with.
    #[must_use]
    pub fn transaction_statement(&self, id: Uuid, changes: u16) -> Statement {
        self.changes_of(id, changes, None)
    }

    fn changes_of(&self, id: Uuid, changes: u16, older_than: Option<&Cursor>) -> Statement {
        let [all, transactions, _] = tables(&self.schema);
        let mut statement = Statement::new(format!(
            "select {CHANGE}, {TRANSACTION}, {ACTION} from (select c.* from {all} c where c.transaction_id = "
        ));
        // All changes of the transaction are read, and no others, however long ago it was.
        statement.bind(id).push(&format!(" offset 0) c join {transactions} t on t.id = c.transaction_id"));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        if let Some(cursor) = older_than {
            cursor.entry.push(conditions.and().push("(c.captured_at, c.id) < "));
        }
        self.scope.push_changes(conditions.and());
        statement.push(" order by c.captured_at desc, c.id desc limit ").bind(i64::from(changes) + 1);
        statement
    }

    /// One without a change that can be seen: only who sees everything sees that it is there.
    async fn transaction_alone(
        &self,
        reading: &mut Reading<'_>,
        id: Uuid,
    ) -> Result<Option<(Transaction, Option<Action>)>, ReadError> {
        if !self.scope.is_everything() {
            return Ok(None);
        }
        let [_, transactions, _] = tables(&self.schema);
        let mut statement = Statement::new(format!("select {TRANSACTION}, {ACTION} from {transactions} t"));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        statement.push(" where t.id = ").bind(id);
        let rows = reading.fetch_all(&statement).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let action = entry::action(row, entry::TRANSACTION_WIDTH)?;
        Ok(entry::transaction(row, 0)?.map(|found| (found, action)))
    }

    /// The transactions of an actor. Of the request, `size` and `from` count. A window is one of the times at which transactions began to write.
    ///
    /// # Errors
    /// When the request cannot be used, and what the database says.
    pub async fn actor_history(
        &self,
        actor: &ActorRef,
        window: Window,
        request: &PageRequest,
    ) -> Result<TransactionPage, ReadError> {
        page::check_size(request.size, "entries")?;
        let statement = self.actor_history_statement(actor, window, request);
        let rows = Reading::begin(self, None).await?.fetch_all(&statement).await?;
        let mut read = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
        let has_more = read.len() > usize::from(request.size);
        read.truncate(request.size.into());
        let is_newer = matches!(request.from, From::NewerThan(_));
        if is_newer {
            read.reverse();
        }
        let cursor = |summary: &TransactionSummary| {
            let found = &summary.transaction;
            Cursor { unit: None, entry: Point::new(found.occurred_at, &found.occurred_text, found.id) }
        };
        let (newest, oldest) = (read.first().map(cursor), read.last().map(cursor));
        let given = match &request.from {
            From::Newest => None,
            From::OlderThan(cursor) | From::NewerThan(cursor) => Some(cursor.clone()),
        };
        Ok(TransactionPage {
            transactions: read,
            has_more,
            older: if is_newer { oldest.or(given.clone()) } else { oldest.filter(|_| has_more) },
            newer: newest.or(given),
        })
    }

    /// The transactions of an actor before and after one of theirs. Within a scope that is not everything, those of 30 days around it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn neighbours(&self, actor: &ActorRef, of: &Transaction) -> Result<Neighbours, ReadError> {
        let cursor = Cursor { unit: None, entry: Point::new(of.occurred_at, &of.occurred_text, of.id) };
        let window = if self.scope.is_everything() { None } else { around(of.occurred_at) };
        let window = window.unwrap_or(Window::Everything);
        let next = async |from: From| {
            let request = PageRequest { size: 1, from, ..PageRequest::default() };
            Ok::<_, ReadError>(self.actor_history(actor, window, &request).await?.transactions.pop())
        };
        Ok(Neighbours {
            previous: next(From::OlderThan(cursor.clone())).await?,
            next: next(From::NewerThan(cursor)).await?,
        })
    }

    /// The statement of [`Self::actor_history`].
    #[must_use]
    pub fn actor_history_statement(
        &self,
        actor: &ActorRef,
        window: Window,
        request: &PageRequest,
    ) -> Statement {
        let [changes, transactions, _] = tables(&self.schema);
        let mut statement = Statement::new(format!(
            "select {TRANSACTION}, {ACTION}, s.changes, s.tables from {transactions} t
             cross join lateral (
                 select count(*) as changes, coalesce(array_agg(distinct c.name order by c.name), '{{}}') as tables
                 from (select concat(c.table_schema, '.', c.table_name) as name from {changes} c"
        ));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        statement.push(" where c.transaction_id = t.id and ");
        self.scope.push_changes(&mut statement);
        statement.push(" limit ").bind(COUNTED_MAX).push(") c) s");
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        conditions.is_actor("t", actor);
        conditions.within("t.occurred_at", window.ends(OffsetDateTime::now_utc()));
        let (beyond, order) = match &request.from {
            From::Newest => (None, "desc"),
            From::OlderThan(cursor) => (Some((" < ", cursor)), "desc"),
            From::NewerThan(cursor) => (Some((" > ", cursor)), "asc"),
        };
        if let Some((beyond, cursor)) = beyond {
            cursor.entry.push(conditions.and().push("(t.occurred_at, t.id)").push(beyond));
        }
        if !self.scope.is_everything() {
            conditions.and().push("s.changes > 0");
        }
        statement
            .push(&format!(" order by t.occurred_at {order}, t.id {order} limit "))
            .bind(i64::from(request.size) + 1);
        statement
    }
}

fn summary(row: &PgRow) -> Result<TransactionSummary, sqlx::Error> {
    let width = entry::TRANSACTION_WIDTH + entry::ACTION_WIDTH;
    Ok(TransactionSummary {
        transaction: entry::transaction(row, 0)?.ok_or(sqlx::Error::RowNotFound)?,
        action: entry::action(row, entry::TRANSACTION_WIDTH)?,
        changes: row.try_get(width)?,
        tables: row.try_get(width + 1)?,
    })
}
