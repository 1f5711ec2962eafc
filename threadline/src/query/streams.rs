//! The statements of a page: one for changes, one for actions and events. Each is in the order of an index, and stops.

use time::OffsetDateTime;

use super::{
    Cursor, Filter, Key, Name, Scope,
    condition::{Conditions, IS_EVENT, Used},
    correlated::push_correlated,
    cursor::Point,
    direction::Direction,
    entry::{ACTION, TRANSACTION},
    joins::tables,
    library_row::Columns,
    plan::Driver,
    snapshot,
    statement::{Statement, Value},
};
use crate::StorageSchema;

/// What a stream is asked for.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) schema: &'a StorageSchema,
    pub(super) scope: &'a Scope,
    pub(super) filter: &'a Filter,
    /// Both ends of the filter's window.
    pub(super) ends: (Option<OffsetDateTime>, Option<OffsetDateTime>),
    pub(super) driver: Driver,
    pub(super) direction: Direction,
    /// What is read of changes.
    pub(super) columns: Columns,
    /// A snapshot, as PostgreSQL prints it: nothing is found that was not visible in it. For who goes on in a later transaction.
    pub(super) visible_in: Option<&'a str>,
    pub(super) cursor: Option<Cursor>,
    /// Entries at most.
    pub(super) limit: i64,
    /// Rows of the index at most; `None` for as many as it takes.
    pub(super) visited: Option<i64>,
}

/// What the index of actions leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    ToThemselves,
    /// The changes that are linked to them.
    ToChanges,
}

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Entries,
    Count,
}

impl Ask<'_> {
    /// Changes; none where only actions are asked for.
    pub(super) fn changes(&self) -> Option<Statement> {
        self.filter.has_changes().then(|| self.changes_for(Purpose::Entries))
    }

    /// Actions and events; none where only changes are asked for.
    pub(super) fn actions(&self) -> Option<Statement> {
        self.filter.has_actions().then(|| self.actions_for(Purpose::Entries))
    }

    /// The number of entries, up to the limit.
    pub(super) fn counts(&self) -> Vec<Statement> {
        let changes = self.filter.has_changes().then(|| self.changes_for(Purpose::Count));
        changes
            .into_iter()
            .chain(self.filter.has_actions().then(|| self.actions_for(Purpose::Count)))
            .collect()
    }

    /// Where the index of changes stops: its time, as text too, and its id. No row where it ends before.
    pub(super) fn end_of_changes(&self) -> Statement {
        self.end(
            |ask, statement| {
                ask.push_leading(statement);
            },
            self.time_column(),
        )
    }

    /// Where the index of actions stops.
    pub(super) fn end_of_actions(&self) -> Statement {
        self.end(
            |ask, statement| {
                ask.push_leading_actions(Leads::ToThemselves, statement);
            },
            "inserted_at",
        )
    }

    fn time_column(&self) -> &'static str {
        match self.driver {
            Driver::Changes => "captured_at",
            Driver::Transactions => "occurred_at",
            Driver::Actions => "inserted_at",
        }
    }

    fn end(&self, leading: impl Fn(&Self, &mut Statement), column: &str) -> Statement {
        let mut statement = Statement::new(format!(
            "select least(greatest(x.{column}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), x.{column}::text, x.id from ("
        ));
        leading(self, &mut statement);
        let order = self.direction.order();
        statement
            .push(&format!(") x order by x.{column} {order}, x.id {order} offset "))
            .bind(self.visited.unwrap_or(1) - 1)
            .push(" limit 1");
        statement
    }

    fn changes_for(&self, purpose: Purpose) -> Statement {
        let mut statement = Statement::default();
        begin(purpose, &self.columns.of_change(), &mut statement);
        let [changes, transactions, _] = tables(self.schema);
        // Where rows are not visited a few at a time, the server decides what leads: its workers, or what is rare.
        let is_flat = self.driver == Driver::Changes && self.visited.is_none();
        if is_flat {
            statement.push(&changes).push(" c");
        } else {
            self.push_leading(statement.push("("));
        }
        let mut is_condition = false;
        match self.driver {
            Driver::Changes => {
                statement.push(if is_flat { "" } else { ") c" });
                self.scope.push_joins(self.schema, &mut statement);
            }
            Driver::Transactions => {
                statement.push(") t cross join lateral (select c.* from ").push(&changes);
                self.push_changes_of_unit("t", "occurred_at", &mut statement);
                statement.push(") c");
                self.scope.push_action_of_transaction(self.schema, &mut statement);
            }
            Driver::Actions => {
                statement
                    .push(&format!(") a join {transactions} t on t.action_id = a.id cross join lateral (select c.* from {changes}"));
                self.push_changes_of_unit("a", "inserted_at", &mut statement);
                statement.push(") c where ");
                self.scope.push_actions(&mut statement);
                is_condition = true;
            }
        }
        let used = self.used();
        let mut conditions =
            if is_condition { Conditions::further(&mut statement) } else { Conditions::new(&mut statement) };
        if is_flat {
            self.push_leading_conditions(&mut conditions);
        }
        if self.driver == Driver::Changes {
            conditions.of_change(self.filter, used);
        }
        conditions.of_transaction(self.filter, used);
        conditions.of_action(self.filter, used);
        self.scope.push_changes(conditions.and());
        // Otherwise the transactions that lead are the visible ones.
        if self.driver != Driver::Transactions {
            self.push_visible("t", &mut conditions);
        }
        match self.driver {
            Driver::Changes => self.finish(purpose, &self.order_of_changes(), &mut statement),
            Driver::Transactions => {
                self.finish(purpose, &["t.occurred_at", "t.id", "c.captured_at", "c.id"], &mut statement);
            }
            Driver::Actions => {
                self.finish(purpose, &["a.inserted_at", "a.id", "c.captured_at", "c.id"], &mut statement);
            }
        }
        statement
    }

    fn actions_for(&self, purpose: Purpose) -> Statement {
        let mut statement = Statement::default();
        let columns = format!("{ACTION}, {IS_EVENT}, {TRANSACTION}");
        begin(purpose, &columns, &mut statement);
        self.push_leading_actions(Leads::ToThemselves, statement.push("("));
        statement.push(") a");
        self.scope.push_transaction_of_action(self.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        conditions.of_action_itself(self.filter, self.used_of_actions());
        self.scope.push_actions(conditions.and());
        self.finish(purpose, &["a.inserted_at", "a.id"], &mut statement);
        statement
    }

    /// The rows of the index that leads to changes.
    fn push_leading(&self, statement: &mut Statement) {
        let [changes, transactions, _] = tables(self.schema);
        match self.driver {
            Driver::Changes => {
                statement.push("select c.* from ").push(&changes).push(" c");
                let mut conditions = Conditions::new(statement);
                if let Some(table) = self.table_in_order() {
                    self.push_within_table(table, &mut conditions);
                    self.push_place_and_window(&mut conditions);
                } else {
                    self.push_leading_conditions(&mut conditions);
                }
                self.push_order_of(&self.order_of_changes(), self.visited, statement);
            }
            Driver::Transactions => self.push_transactions(&transactions, statement),
            Driver::Actions => self.push_leading_actions(Leads::ToChanges, statement),
        }
    }

    /// What the index of changes takes.
    fn push_leading_conditions(&self, conditions: &mut Conditions<'_>) {
        if let Some(table) = &self.filter.table {
            if let (Some(schema), Some(key @ Key::Columns(_))) = (&table.schema, &self.filter.key) {
                conditions.and().push("c.table_schema = ").bind(schema);
                conditions.and().push("c.table_name = ").bind(&table.name);
                conditions.and().push("c.table_pk = ").bind(key.to_json()).push("::jsonb");
            } else {
                conditions.and().push("c.table_name = ").bind(&table.name);
            }
        }
        self.push_place_and_window(conditions);
    }

    fn push_place_and_window(&self, conditions: &mut Conditions<'_>) {
        if let Some(cursor) = &self.cursor {
            self.push_beyond(conditions.and(), "(c.captured_at, c.id)", cursor);
        }
        conditions.within("c.captured_at", self.ends);
    }

    /// The table whose changes are visited a few at a time, in the order of time and not by their keys.
    fn table_in_order(&self) -> Option<&str> {
        let table = self.filter.table.as_ref()?;
        let has_key = table.schema.is_some() && matches!(self.filter.key, Some(Key::Columns(_)));
        let is_visited = self.driver == Driver::Changes && self.visited.is_some();
        (is_visited && !has_key).then_some(table.name.as_str())
    }

    /// That a change is of a table, said so that its index alone is in order. Where the name is equal to something, the index of all changes is
    /// in order too, and the server takes that one for cheaper: to it times are in the order of rows, whichever table leads. Then it walks
    /// whatever other tables have since written.
    fn push_within_table(&self, table: &str, conditions: &mut Conditions<'_>) {
        let (from, to) = self.ends;
        let place = self.cursor.as_ref().map(|cursor| cursor.entry.at.as_str());
        let (above, below) = match self.direction {
            Direction::Older => (None, place),
            Direction::Newer => (place, None),
        };
        for (way, place, end) in [(" >= ", above, from), (" <= ", below, to)] {
            let statement = conditions.and();
            // Behind the place is within the window.
            match place.map(Value::from).or(end.map(Value::from)) {
                Some(end) => statement
                    .push("(c.table_name, c.captured_at)")
                    .push(way)
                    .push("(")
                    .bind(table)
                    .push(", ")
                    .bind(end)
                    .push("::timestamptz)"),
                None => statement.push("c.table_name").push(way).bind(table),
            };
        }
    }

    /// What orders changes, for an index to give them so.
    fn order_of_changes(&self) -> Vec<&'static str> {
        let of_table = self.table_in_order().map(|_| "c.table_name");
        of_table.into_iter().chain(["c.captured_at", "c.id"]).collect()
    }

    fn push_transactions(&self, transactions: &str, statement: &mut Statement) {
        if self.filter.correlation.is_some() {
            statement.push("select t.* from ((");
        }
        statement.push(&format!("select t.* from {transactions} t"));
        let mut conditions = Conditions::new(statement);
        if let Some(correlation) = &self.filter.correlation {
            conditions.is_correlated(correlation);
        } else if let Some(actor) = &self.filter.actor {
            conditions.is_actor("t", actor);
        }
        self.push_unit_conditions(&mut conditions, "t", "occurred_at");
        self.push_visible("t", &mut conditions);
        self.push_order("t", "occurred_at", self.visited, statement);
        if let Some(correlation) = &self.filter.correlation {
            self.push_linked_transactions(transactions, correlation, statement);
        }
    }

    /// What is linked to an action with the id, and does not have it itself: as the Elixir library correlates.
    fn push_linked_transactions(&self, transactions: &str, correlation: &str, statement: &mut Statement) {
        let [_, _, actions] = tables(self.schema);
        statement.push(") union all (select t.* from (");
        push_correlated(&actions, correlation, |_| (), statement);
        statement
            .push(&format!(" offset 0) a join {transactions} t on t.action_id = a.id where t.correlation_id is distinct from "))
            .bind(correlation);
        statement.push(" and ");
        self.scope.push_actions(statement);
        let mut conditions = Conditions::further(statement);
        self.push_unit_conditions(&mut conditions, "t", "occurred_at");
        self.push_visible("t", &mut conditions);
        self.push_order("t", "occurred_at", self.visited, statement);
        statement.push(")) t");
        self.push_order("t", "occurred_at", self.visited, statement);
    }

    /// The rows of the index that leads to actions.
    fn push_leading_actions(&self, leads: Leads, statement: &mut Statement) {
        let [_, _, actions] = tables(self.schema);
        if let Some(correlation) = &self.filter.correlation {
            statement.push("select a.* from (");
            push_correlated(&actions, correlation, |a| self.push_visible("a", a), statement);
            statement.push(" offset 0) a");
        } else {
            statement.push(&format!("select a.* from {actions} a"));
        }
        let mut conditions = Conditions::new(statement);
        if self.filter.correlation.is_none() {
            self.push_visible("a", &mut conditions);
        }
        match (&self.filter.correlation, &self.filter.actor, &self.filter.action) {
            (Some(_), ..) => {}
            (_, Some(actor), _) => conditions.is_actor("a", actor),
            (_, _, Some(Name::Exact(name))) => drop(conditions.and().push("a.name = ").bind(name)),
            _ => {}
        }
        if self.driver == Driver::Changes {
            if let Some(cursor) = &self.cursor {
                self.push_beyond(conditions.and(), "(a.inserted_at, a.id)", cursor);
            }
            conditions.within("a.inserted_at", self.ends);
        } else {
            self.push_unit_conditions(&mut conditions, "a", "inserted_at");
            if let Some(cursor) = self.cursor.as_ref().filter(|_| leads == Leads::ToThemselves)
                && let Some(unit) = &cursor.unit
            {
                // As a unit of its own an action is its only entry.
                self.push_not_before(
                    "a.inserted_at, a.id",
                    unit,
                    "a.inserted_at, a.id",
                    &cursor.entry,
                    conditions.and(),
                );
            }
        }
        self.push_order("a", "inserted_at", self.visited, statement);
    }

    /// The changes of one transaction, of which some may be behind the cursor.
    fn push_changes_of_unit(&self, unit: &str, column: &str, statement: &mut Statement) {
        statement.push(" c where c.transaction_id = t.id");
        let mut conditions = Conditions::further(statement);
        conditions.of_change(self.filter, Used::default());
        if let Some(cursor) = &self.cursor
            && let Some(point) = &cursor.unit
        {
            let unit = format!("{unit}.{column}, {unit}.id");
            self.push_not_before(&unit, point, "c.captured_at, c.id", &cursor.entry, conditions.and());
        }
        self.push_order("c", "captured_at", Some(self.limit), statement);
    }

    /// That a row of a table was visible in the snapshot, where there is one.
    fn push_visible(&self, alias: &str, conditions: &mut Conditions<'_>) {
        if let Some(snapshot) = self.visible_in {
            snapshot::push_visible(alias, snapshot, conditions.and());
        }
    }

    fn push_unit_conditions(&self, conditions: &mut Conditions<'_>, alias: &str, column: &str) {
        if let Some(point) = self.cursor.as_ref().and_then(|cursor| cursor.unit.as_ref()) {
            let columns = format!("({alias}.{column}, {alias}.id){}", self.direction.from());
            point.push(conditions.and().push(&columns));
        }
        conditions.within(&format!("{alias}.{column}"), self.ends);
    }

    /// Of another unit than the one of the cursor, or behind its entry.
    fn push_not_before(&self, unit: &str, point: &Point, entry: &str, at: &Point, statement: &mut Statement) {
        let beyond = self.direction.beyond();
        point.push(statement.push(&format!("(({unit}){beyond}")));
        at.push(statement.push(&format!(" or ({entry}){beyond}")));
        statement.push(")");
    }

    fn push_beyond(&self, statement: &mut Statement, columns: &str, cursor: &Cursor) {
        cursor.entry.push(statement.push(columns).push(self.direction.beyond()));
    }

    fn push_order(&self, alias: &str, column: &str, limit: Option<i64>, statement: &mut Statement) {
        self.push_order_of(&[&format!("{alias}.{column}"), &format!("{alias}.id")], limit, statement);
    }

    fn push_order_of(&self, columns: &[&str], limit: Option<i64>, statement: &mut Statement) {
        let direction = self.direction.order();
        let order: Vec<String> = columns.iter().map(|column| format!("{column} {direction}")).collect();
        statement.push(" order by ").push(&order.join(", "));
        if let Some(limit) = limit {
            statement.push(" limit ").bind(limit);
        }
    }

    fn finish(&self, purpose: Purpose, order: &[&str], statement: &mut Statement) {
        if purpose == Purpose::Entries {
            self.push_order_of(order, None, statement);
        }
        statement.push(" limit ").bind(self.limit);
        if purpose == Purpose::Count {
            statement.push(") found");
        }
    }
}

fn begin(purpose: Purpose, columns: &str, statement: &mut Statement) {
    match purpose {
        Purpose::Entries => statement.push("select ").push(columns).push(" from "),
        Purpose::Count => statement.push("select count(*) from (select from "),
    };
}
