//! What an actor does, in numbers: of the newest of a window, so that the answer takes as long for everybody.

use serde::Serialize;
use sqlx::Row as _;
use time::OffsetDateTime;

use super::{
    ReadError, Reader, Window, clamped_time, condition::Conditions, joins::tables, row::Reading, serialize,
    statement::Statement,
};
use crate::ActorRef;

/// Transactions, and actions, that are looked at.
pub const ACTIVITY_MAX: i64 = 1_000;

/// Changes of one transaction that are.
const CHANGES_OF_EACH: i64 = 100;

/// Names that are told apart.
const NAMES_MAX: usize = 20;

/// What an actor does.
#[derive(Debug, Clone, Serialize)]
pub struct Activity {
    /// The oldest entry that can be seen, of any time; none where there is none, or where finding it took too long.
    #[serde(serialize_with = "serialize::optional_time")]
    pub first_seen: Option<OffsetDateTime>,
    /// The newest entry.
    #[serde(serialize_with = "serialize::optional_time")]
    pub last_seen: Option<OffsetDateTime>,
    /// Transactions in the window, [`ACTIVITY_MAX`] at most.
    pub transactions: i64,
    /// Actions and events in the window, as many at most.
    pub actions: i64,
    /// Those of them that failed.
    pub errors: i64,
    /// Whether there are more than were looked at: then what follows is about the newest.
    pub is_bounded: bool,
    /// By the names of actions; the most frequent first, 20 at most.
    pub by_action: Vec<Frequency>,
    /// By the tables of changes, `schema.table`; of each transaction 100 changes count.
    pub by_table: Vec<Frequency>,
    /// Whether one of these transactions has more than these 100: then tables were changed more often than `by_table` says.
    pub has_more_changes: bool,
}

/// How often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frequency {
    /// Of what.
    pub name: String,
    /// How often.
    pub count: i64,
    /// How often it failed; of changes never.
    pub errors: i64,
}

impl Reader {
    /// What an actor does within a window of time.
    ///
    /// # Errors
    /// What the database says.
    pub async fn activity(&self, actor: &ActorRef, window: Window) -> Result<Activity, ReadError> {
        let mut reading = Reading::begin(self, None).await?;
        let rows = reading.fetch_all(&self.frequencies(actor, window)).await?;
        let (mut transactions, mut actions, mut errors) = (0, 0, 0);
        let (mut by_action, mut by_table, mut has_more_changes) = (Vec::new(), Vec::new(), false);
        for row in &rows {
            let kind: String = row.try_get(0)?;
            let frequency =
                Frequency { name: row.try_get(1)?, count: row.try_get(2)?, errors: row.try_get(3)? };
            match kind.as_str() {
                "transactions" => transactions = frequency.count,
                "actions" => (actions, errors) = (frequency.count, frequency.errors),
                "action" => by_action.push(frequency),
                "more" => has_more_changes = frequency.count > 0,
                _ => by_table.push(frequency),
            }
        }
        let most = |mut frequencies: Vec<Frequency>| {
            frequencies.sort_by(|one, other| (other.count, &one.name).cmp(&(one.count, &other.name)));
            frequencies.truncate(NAMES_MAX);
            frequencies
        };
        let is_bounded = transactions >= ACTIVITY_MAX || actions >= ACTIVITY_MAX;
        let (by_action, by_table) = (most(by_action), most(by_table));
        // Within a scope nothing leads to the first entry that can be seen: it may take too long.
        let seen = reading.fetch_all(&self.seen(actor)).await;
        let (first_seen, last_seen) = match seen.as_deref() {
            Ok([row, ..]) => (row.try_get(0)?, row.try_get(1)?),
            _ => (None, None),
        };
        Ok(Activity {
            first_seen,
            last_seen,
            transactions,
            actions,
            errors,
            is_bounded,
            by_action,
            by_table,
            has_more_changes,
        })
    }

    fn frequencies(&self, actor: &ActorRef, window: Window) -> Statement {
        let [changes, ..] = tables(&self.schema);
        let mut statement = Statement::new("with t as materialized (");
        self.push_transactions_of(actor, Some(window), "t.*", "desc", ACTIVITY_MAX, &mut statement);
        statement.push("), a as materialized (");
        self.push_actions_of(actor, Some(window), "a.name, a.status", "desc", ACTIVITY_MAX, &mut statement);
        statement.push(&format!(
            "), c as materialized (select c.name, c.n from t cross join lateral (
                 select concat(c.table_schema, '.', c.table_name) as name, row_number() over () as n from {changes} c"
        ));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        statement.push(" where c.transaction_id = t.id and ");
        self.scope.push_changes(&mut statement);
        statement.push(" limit ").bind(CHANGES_OF_EACH + 1).push(
            ") c)
             select 'transactions', '', count(*), 0::int8 from t
             union all select 'actions', '', count(*), count(*) filter (where status = 'error') from a
             union all select 'action', name, count(*), count(*) filter (where status = 'error') from a group by name
             union all select 'more', '', count(*), 0::int8 from c where n > ",
        );
        statement.bind(CHANGES_OF_EACH);
        statement.push(" union all select 'table', name, count(*), 0::int8 from c where n <= ");
        statement.bind(CHANGES_OF_EACH).push(" group by name");
        statement
    }

    /// The first and the last time of an actor.
    fn seen(&self, actor: &ActorRef) -> Statement {
        let mut statement = Statement::new(format!(
            "select {}, {} from (",
            clamped_time("min(s.at)"),
            clamped_time("max(s.at)")
        ));
        for (number, order) in ["asc", "desc"].into_iter().enumerate() {
            statement.push(if number == 0 { "(" } else { " union all (" });
            self.push_transactions_of(actor, None, "t.occurred_at as at", order, 1, &mut statement);
            statement.push(") union all (");
            self.push_actions_of(actor, None, "a.inserted_at", order, 1, &mut statement);
            statement.push(")");
        }
        statement.push(") s");
        statement
    }

    fn push_transactions_of(
        &self,
        actor: &ActorRef,
        window: Option<Window>,
        columns: &str,
        order: &str,
        limit: i64,
        statement: &mut Statement,
    ) {
        let [changes, transactions, _] = tables(&self.schema);
        statement.push(&format!("select {columns} from {transactions} t"));
        let mut conditions = Conditions::new(statement);
        conditions.is_actor("t", actor);
        if let Some(window) = window {
            conditions.within("t.occurred_at", window.ends(OffsetDateTime::now_utc()));
        }
        if !self.scope.is_everything() {
            let statement = conditions.and();
            statement.push(&format!("exists (select from {changes} c"));
            self.scope.push_action_of_transaction(&self.schema, statement);
            statement.push(" where c.transaction_id = t.id and ");
            self.scope.push_changes(statement);
            statement.push(")");
        }
        statement.push(&format!(" order by t.occurred_at {order}, t.id {order} limit ")).bind(limit);
    }

    fn push_actions_of(
        &self,
        actor: &ActorRef,
        window: Option<Window>,
        columns: &str,
        order: &str,
        limit: i64,
        statement: &mut Statement,
    ) {
        let [_, _, actions] = tables(&self.schema);
        statement.push(&format!("select {columns} from {actions} a"));
        if !self.scope.is_everything() {
            self.scope.push_transaction_of_action(&self.schema, statement);
        }
        let mut conditions = Conditions::new(statement);
        conditions.is_actor("a", actor);
        if let Some(window) = window {
            conditions.within("a.inserted_at", window.ends(OffsetDateTime::now_utc()));
        }
        self.scope.push_actions(conditions.and());
        statement.push(&format!(" order by a.inserted_at {order}, a.id {order} limit ")).bind(limit);
    }
}
