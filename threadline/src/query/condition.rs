//! How a filter becomes conditions: the one place that knows.
//!
//! In every statement `c` is the change, `t` the transaction and `a` the action.

use time::OffsetDateTime;

use super::{Filter, Key, Kind, Name, Op, statement::Statement};
use crate::ActorRef;

/// The kind of an actor, as it is indexed.
pub(super) const ACTOR_TYPE: &str = "left(actor_ref ->> 'type', 256)";

/// The id of an actor, as it is indexed: all that are anonymous are one.
pub(super) const ACTOR_ID: &str = "(case when actor_ref ->> 'type' = 'anonymous' then '' else left(coalesce(actor_ref ->> 'id', ''), 256) end)";

/// The longest part of an id that is indexed, in characters.
const INDEXED_MAX: usize = 256;

/// Conditions that are joined with `and`.
pub(super) struct Conditions<'s> {
    statement: &'s mut Statement,
    is_first: bool,
    first: &'static str,
}

impl<'s> Conditions<'s> {
    /// Conditions that begin with `where`.
    pub(super) fn new(statement: &'s mut Statement) -> Self {
        Self { statement, is_first: true, first: " where " }
    }

    /// Conditions that go on.
    pub(super) fn further(statement: &'s mut Statement) -> Self {
        Self { statement, is_first: true, first: " and " }
    }

    /// Begins one.
    pub(super) fn and(&mut self) -> &mut Statement {
        self.statement.push(if self.is_first { self.first } else { " and " });
        self.is_first = false;
        self.statement
    }

    fn is(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.and().push(column).push(" = ").bind(value);
        }
    }

    /// Between two times, both included.
    pub(super) fn within(
        &mut self,
        column: &str,
        (from, to): (Option<OffsetDateTime>, Option<OffsetDateTime>),
    ) {
        if let Some(from) = from {
            self.and().push(column).push(" >= ").bind(from);
        }
        if let Some(to) = to {
            self.and().push(column).push(" <= ").bind(to);
        }
    }

    /// That `actor_ref` of an alias is this actor.
    pub(super) fn is_actor(&mut self, alias: &str, actor: &ActorRef) {
        let of = |column: &str| column.replace("actor_ref", &format!("{alias}.actor_ref"));
        self.and().push(&of(ACTOR_TYPE)).push(" = ").bind(actor.kind().as_str());
        let id = actor.id().unwrap_or_default();
        self.and().push(&of(ACTOR_ID)).push(" = ").bind(id.chars().take(INDEXED_MAX).collect::<String>());
        if id.chars().nth(INDEXED_MAX).is_some() {
            self.and().push(&format!("{alias}.actor_ref ->> 'id' = ")).bind(id);
        }
    }

    /// That a transaction has this correlation id itself.
    pub(super) fn is_correlated(&mut self, correlation: &str) {
        self.and().push("left(t.correlation_id, 256) = ").bind(correlation);
        self.and().push("t.correlation_id = ").bind(correlation);
    }

    /// What is asked of a change itself, but for what an index has been used for.
    pub(super) fn of_change(&mut self, filter: &Filter, used: Used) {
        if let Some(table) = &filter.table {
            if !used.table {
                self.and().push("c.table_name = ").bind(&table.name);
            }
            if !used.key {
                self.is("c.table_schema", table.schema.as_ref());
            }
        }
        if let Some(key) = &filter.key
            && !used.key
        {
            match key {
                Key::Columns(_) => {
                    self.and().push("c.table_pk = ").bind(key.to_json()).push("::jsonb");
                }
                Key::Value(value) => {
                    self.and()
                        .push("(select count(*) = 1 and min(k.value) = ")
                        .bind(value)
                        .push(" from jsonb_each_text(case jsonb_typeof(c.table_pk) when 'object' then c.table_pk else '{}' end) k)");
                }
            }
        }
        if let Some(op) = filter.op {
            self.and().push("c.op = ").bind(op.as_str());
        }
        if let Some(changed) = &filter.changed {
            self.and().push("c.op = ").bind(Op::Update.as_str());
            self.and().push("(").bind(&changed.column).push(" = any (c.changed_fields)) is true");
            if let Some(before) = &changed.before {
                self.and().push("c.changed_from ->> ").bind(&changed.column).push(" = ").bind(before);
            }
            if let Some(after) = &changed.after {
                self.and().push("c.data_after ->> ").bind(&changed.column).push(" = ").bind(after);
            }
        }
        if let Some(text) = &filter.text {
            self.and()
                .push("concat_ws(' ', c.table_pk, c.data_after, c.data_before, c.changed_from) ilike ")
                .bind(pattern(&in_json(text)));
        }
    }

    /// What is asked of the transaction of a change.
    pub(super) fn of_transaction(&mut self, filter: &Filter, used: Used) {
        if let Some(actor) = &filter.actor
            && !used.actor
        {
            self.is_actor("t", actor);
        }
        if let Some(correlation) = &filter.correlation
            && !used.correlation
        {
            self.and()
                .push("(t.correlation_id = ")
                .bind(correlation)
                .push(" or a.correlation_id = ")
                .bind(correlation)
                .push(")");
        }
        for (column, value) in [("request_id", &filter.request), ("job_id", &filter.job)] {
            if let Some(value) = value {
                self.and()
                    .push(&format!("(t.{column} = "))
                    .bind(value)
                    .push(&format!(" or a.{column} = "))
                    .bind(value)
                    .push(")");
            }
        }
        self.is("t.source", filter.source.as_ref());
    }

    /// What is asked of an action, or of the one that a change is linked to.
    pub(super) fn of_action(&mut self, filter: &Filter, used: Used) {
        match &filter.action {
            Some(Name::Exact(name)) if !used.action => {
                self.and().push("a.name = ").bind(name);
            }
            Some(Name::Prefix(prefix)) => {
                self.and().push("starts_with(a.name, ").bind(prefix).push(")");
            }
            _ => {}
        }
        if let Some(status) = filter.status {
            self.and().push("a.status = ").bind(status.as_str());
        }
        self.is("a.category", filter.category.as_ref());
    }

    /// What is asked of an action that stands for itself.
    pub(super) fn of_action_itself(&mut self, filter: &Filter, used: Used) {
        self.of_action(filter, used);
        match filter.kind {
            Some(Kind::Event) => drop(self.and().push(IS_EVENT)),
            Some(Kind::Action) => drop(self.and().push("not ").push(IS_EVENT)),
            _ => {}
        }
        if let Some(actor) = &filter.actor
            && !used.actor
        {
            self.is_actor("a", actor);
        }
        if !used.correlation {
            self.is("a.correlation_id", filter.correlation.as_ref());
        }
        self.is("a.request_id", filter.request.as_ref());
        self.is("a.job_id", filter.job.as_ref());
        self.is("t.source", filter.source.as_ref());
        if let Some(text) = &filter.text {
            self.and()
                .push("concat_ws(' ', a.name, a.actor_ref ->> 'id', a.verb, a.category, a.reason, a.comment, a.correlation_id) ilike ")
                .bind(pattern(text));
        }
    }
}

/// Pushes `where actor_ref` of an alias is this actor, as an index finds it.
pub(crate) fn push_where_actor(alias: &str, actor: &ActorRef, statement: &mut Statement) {
    Conditions::new(statement).is_actor(alias, actor);
}

/// Whether the pipeline has carried it: a host records its own actions under other ids.
pub(crate) const IS_EVENT: &str = "coalesce(a.correlation_id = a.id::text, false)";

/// What an index has been used for: it is asked for once.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are parts of a filter, independent of each other")]
pub(super) struct Used {
    pub(super) table: bool,
    pub(super) key: bool,
    pub(super) actor: bool,
    pub(super) action: bool,
    pub(super) correlation: bool,
}

/// The text as PostgreSQL writes it within a string of JSON.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A pattern for `ilike` that finds this text anywhere.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
