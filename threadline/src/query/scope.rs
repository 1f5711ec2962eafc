//! Who may see what: a part of every statement.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::statement::Statement;

/// What of a timeline can be seen. There is no default: whoever reads says which one it is.
///
/// A scope that has no rule for a kind of entry shows none of that kind. So a rule that was forgotten hides, and never shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope(Option<Rules>);

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Rules {
    changes: Vec<Rule>,
    actions: Vec<Rule>,
}

/// What has to hold for an entry that can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// The transaction has this text under this key of its context: a key of the host's own, such as `tenant`. An action has it through
    /// the transaction that it is linked to.
    Context {
        /// The key.
        key: String,
        /// The text.
        value: String,
    },
    /// The row has this text in this column, as it is and, where the change knows it, as it was. It holds for no action.
    Column {
        /// The name of the column.
        name: String,
        /// The text.
        value: String,
    },
    /// The change is of one of these tables, `schema.table`. It holds for no action.
    Tables(Vec<String>),
    /// The name of the action begins with this. It holds for no change.
    ActionPrefix(String),
    /// A condition of the host's own. In it `c` is the change, `t` the transaction and `a` the action, each null where there is none, and
    /// `{value}` stands for the value.
    Sql {
        /// The condition. It is part of the program, never made of what somebody gives.
        condition: &'static str,
        /// A value for it.
        value: String,
    },
}

impl Scope {
    /// Everything: for whoever operates the timeline.
    #[must_use]
    pub fn everything() -> Self {
        Self(None)
    }

    /// Nothing, until rules are added.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Some(Rules::default()))
    }

    /// One tenant: entries of transactions whose context has it.
    #[must_use]
    pub fn of_context(key: impl Into<String>, value: impl Into<String>) -> Self {
        let rule = Rule::Context { key: key.into(), value: value.into() };
        Self::nothing().changes(rule.clone()).actions(rule)
    }

    /// Shows changes for which this holds, besides all that was said of changes before. What sees everything, sees less then.
    #[must_use]
    pub fn changes(mut self, rule: Rule) -> Self {
        self.0.get_or_insert_with(Rules::default).changes.push(rule);
        self
    }

    /// Shows actions and events for which this holds, besides all that was said of actions before.
    #[must_use]
    pub fn actions(mut self, rule: Rule) -> Self {
        self.0.get_or_insert_with(Rules::default).actions.push(rule);
        self
    }

    /// Whether it shows everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// What it shows, as JSON for people: `"everything"`, or the rules for changes and for actions.
    #[must_use]
    pub fn describe(&self) -> Value {
        self.0.as_ref().map_or_else(|| json!("everything"), |rules| json!(rules))
    }

    /// The same as [`Self::describe`], to be read back with [`Self::restore`]; `None` where a rule is a condition of the program's own.
    pub(crate) fn store(&self) -> Option<Value> {
        let is_of_program = |rule: &Rule| matches!(rule, Rule::Sql { .. });
        let has = |rules: &Rules| rules.changes.iter().chain(&rules.actions).any(is_of_program);
        (!self.0.as_ref().is_some_and(has)).then(|| self.describe())
    }

    /// What was stored; `None` for anything else, so that a scope that is not understood shows nothing.
    pub(crate) fn restore(stored: &Value) -> Option<Self> {
        if stored == "everything" {
            return Some(Self::everything());
        }
        let StoredRules { changes, actions } = StoredRules::deserialize(stored).ok()?;
        let rules = |stored: Vec<StoredRule>| stored.into_iter().map(Rule::from).collect();
        Some(Self(Some(Rules { changes: rules(changes), actions: rules(actions) })))
    }

    /// Whether an action shows the transaction that it is linked to: where a rule says that it is one's own.
    pub(crate) fn links_actions(&self) -> &'static str {
        let is_own = |rules: &Rules| rules.actions.iter().any(|rule| matches!(rule, Rule::Context { .. }));
        if self.0.as_ref().is_none_or(is_own) { "true" } else { "false" }
    }

    /// The condition for a change, over `c`, `t` and `a`.
    pub(crate) fn push_changes(&self, statement: &mut Statement) {
        match &self.0 {
            None => {
                statement.push("true");
            }
            Some(rules) => push_rules(&rules.changes, Rule::push_change, statement),
        }
    }

    /// The condition for an action, over `a` and `t`, the transaction that is linked to it.
    pub(crate) fn push_actions(&self, statement: &mut Statement) {
        match &self.0 {
            None => {
                statement.push("true");
            }
            Some(rules) => push_rules(&rules.actions, Rule::push_action, statement),
        }
    }
}

impl Rule {
    fn push_change(&self, statement: &mut Statement) {
        match self {
            Self::Context { key, value } => {
                statement.push("t.context ->> ").bind(key).push(" = ").bind(value);
            }
            Self::Column { name, value } => {
                // Of a row that comes from elsewhere, or goes there, both sides have to be known and have to be ours.
                statement
                    .push("case c.op when 'delete' then c.data_before ->> ")
                    .bind(name)
                    .push(" = ")
                    .bind(value)
                    .push(" else c.data_after ->> ")
                    .bind(name)
                    .push(" = ")
                    .bind(value)
                    .push(" and ((")
                    .bind(name)
                    .push(" = any (c.changed_fields)) is not true or c.changed_from ->> ")
                    .bind(name)
                    .push(" = ")
                    .bind(value)
                    .push(") end");
            }
            Self::Tables(tables) => {
                statement
                    .push("concat(c.table_schema, '.', c.table_name) = any (")
                    .bind(tables.clone())
                    .push(")");
            }
            Self::ActionPrefix(_) => {
                statement.push("false");
            }
            Self::Sql { condition, value } => push_condition(condition, value, statement),
        }
    }

    fn push_action(&self, statement: &mut Statement) {
        match self {
            Self::Context { key, value } => {
                statement.push("t.context ->> ").bind(key).push(" = ").bind(value);
            }
            Self::ActionPrefix(prefix) => {
                statement.push("starts_with(a.name, ").bind(prefix).push(")");
            }
            Self::Column { .. } | Self::Tables(_) => {
                statement.push("false");
            }
            Self::Sql { condition, value } => push_condition(condition, value, statement),
        }
    }
}

/// Rules as they were stored: none of them is SQL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRules {
    changes: Vec<StoredRule>,
    actions: Vec<StoredRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredRule {
    Context { key: String, value: String },
    Column { name: String, value: String },
    Tables(Vec<String>),
    ActionPrefix(String),
}

impl From<StoredRule> for Rule {
    fn from(stored: StoredRule) -> Self {
        match stored {
            StoredRule::Context { key, value } => Self::Context { key, value },
            StoredRule::Column { name, value } => Self::Column { name, value },
            StoredRule::Tables(tables) => Self::Tables(tables),
            StoredRule::ActionPrefix(prefix) => Self::ActionPrefix(prefix),
        }
    }
}

fn push_condition(condition: &str, value: &str, statement: &mut Statement) {
    let mut parts = condition.split("{value}");
    statement.push(parts.next().unwrap_or_default());
    for part in parts {
        statement.bind(value).push(part);
    }
}

/// What is unknown does not hold; where there is no rule, nothing does.
fn push_rules(rules: &[Rule], push: fn(&Rule, &mut Statement), statement: &mut Statement) {
    if rules.is_empty() {
        statement.push("false");
        return;
    }
    for (number, rule) in rules.iter().enumerate() {
        statement.push(if number > 0 { " and coalesce((" } else { "coalesce((" });
        push(rule, statement);
        statement.push("), false)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_restored_as_it_was_stored_and_one_with_sql_is_not_stored() {
        let scope = Scope::of_context("tenant", "t1")
            .changes(Rule::Column { name: "a".to_owned(), value: "b".to_owned() })
            .changes(Rule::Tables(vec!["public.posts".to_owned()]))
            .actions(Rule::ActionPrefix("post.".to_owned()));
        for scope in [scope.clone(), Scope::everything(), Scope::nothing()] {
            assert_eq!(scope.store().as_ref().and_then(Scope::restore), Some(scope));
        }
        let own = Rule::Sql { condition: "t.source = {value}", value: "web".to_owned() };
        assert_eq!(scope.clone().changes(own.clone()).store(), None);
        assert_eq!(scope.actions(own).store(), None);
        for stored in [
            json!(null),
            json!("nothing"),
            json!({"changes": []}),
            json!({"changes": [], "actions": [], "more": []}),
            json!({"changes": [{"sql": {"condition": "true", "value": ""}}], "actions": []}),
        ] {
            assert_eq!(Scope::restore(&stored), None, "{stored}");
        }
    }
}
