//! What is erased, as documents about the audit itself name it: actors as objects and texts, and terms of the filters of exports.

use serde_json::Value;
use uuid::Uuid;

use super::left::pseudonym;
use crate::{
    ActorRef,
    capture::HostTable,
    query::{Filter, Key, Statement, Table, row::RowKey},
};

/// What documents may name.
#[derive(Debug, Clone)]
pub(super) enum Named {
    Actor(ActorRef),
    /// A row, under each of its keys.
    Row(HostTable, Vec<RowKey>),
}

impl Named {
    /// What is counted where a document named it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Actor(_) => "actor",
            Self::Row(..) => "key",
        }
    }

    pub(super) fn actor(&self) -> Option<&ActorRef> {
        match self {
            Self::Actor(actor) => Some(actor),
            Self::Row(..) => None,
        }
    }

    /// Texts of a document as PostgreSQL prints it, each with what takes its place.
    pub(super) fn pairs(&self, run: Uuid) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        if let Some(actor) = self.actor() {
            let kind = actor.kind().as_str();
            let object = |id: &str| format!(r#"{{"id": {}, "type": "{kind}"}}"#, quoted(id));
            let text = |id: &str| quoted(&format!("{kind}:{id}"));
            let (id, other) = (actor.id().unwrap_or_default(), pseudonym(run));
            pairs.push((object(id), object(&other)));
            pairs.push((text(id), text(&other)));
        }
        for (before, after) in self.terms(run) {
            pairs.extend(delimited(&before).into_iter().zip(delimited(&after)));
        }
        pairs
    }

    /// Of a row: tables and keys as the members `table` and `key` of a filter name them, where it is an object of texts.
    pub(super) fn members(&self) -> Option<(Vec<String>, Vec<String>)> {
        let Self::Row(table, keys) = self else { return None };
        let value = |key: &RowKey| key.values().next().filter(|_| key.len() == 1).cloned().map(Key::Value);
        let keys = keys.iter().flat_map(|key| [Some(Key::Columns(key.clone())), value(key)]).flatten();
        let tables = named_as(table).map(|table| table.to_string());
        Some((tables.to_vec(), keys.map(|key| key.to_string()).collect()))
    }

    /// Texts of a compact document, whatever its filter has besides.
    pub(super) fn in_compact(&self) -> Vec<String> {
        self.terms(Uuid::nil()).iter().flat_map(|(before, _)| delimited(before)).collect()
    }

    /// Terms of filters, as they are written, each with what takes its place.
    fn terms(&self, run: Uuid) -> Vec<(String, String)> {
        let other = pseudonym(run);
        match self {
            Self::Actor(actor) => {
                let Ok(pseudonym) = ActorRef::new(actor.kind(), Some(&*other)) else { return Vec::new() };
                let term = |actor: ActorRef| Filter { actor: Some(actor), ..Filter::default() }.to_string();
                vec![(term(actor.clone()), term(pseudonym))]
            }
            Self::Row(table, keys) => {
                let tables = named_as(table);
                let term = |table: &Table, key: Key| {
                    Filter { table: Some(table.clone()), key: Some(key), ..Filter::default() }.to_string()
                };
                let mut terms = Vec::new();
                for key in keys {
                    let columns = Key::Columns(key.clone());
                    let value = key.values().next().filter(|_| key.len() == 1).cloned().map(Key::Value);
                    for (table, key) in tables.iter().flat_map(|table| {
                        Some(columns.clone()).into_iter().chain(value.clone()).map(move |key| (table, key))
                    }) {
                        terms.push((term(table, key), term(table, Key::Value(other.clone()))));
                    }
                }
                terms
            }
        }
    }
}

/// A table as filters name it.
fn named_as(table: &HostTable) -> [Table; 2] {
    [Some(&table.schema), None].map(|schema| Table { schema: schema.cloned(), name: table.name.clone() })
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A term of a filter as it stands in a text of JSON: with what may be on both sides of it.
fn delimited(term: &str) -> Vec<String> {
    let quoted = quoted(term);
    let term = quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default();
    let sides = [("\"", "\""), ("\"", " "), (" ", "\""), (" ", " ")];
    sides.iter().map(|(before, after)| format!("{before}{term}{after}")).collect()
}

/// Pushes that a document is a filter of a row; of anything else null or false.
pub(super) fn push_is_filter(
    document: &str,
    (tables, keys): &(Vec<String>, Vec<String>),
    statement: &mut Statement,
) {
    statement.push(&format!("({document} ->> 'table' = any (")).bind(tables.clone());
    statement.push(&format!("::text[]) and {document} ->> 'key' = any (")).bind(keys.clone());
    statement.push("::text[]))");
}

/// Pushes that a text holds one of these.
pub(super) fn push_holds(text: &str, held: &[String], statement: &mut Statement) {
    statement.push("exists (select from unnest(").bind(held.to_vec());
    statement.push(&format!("::text[]) h (held) where strpos({text}, h.held) > 0)"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActorType;

    fn replaced(named: &Named, text: &str) -> String {
        let pairs = named.pairs(Uuid::nil());
        pairs.iter().fold(text.to_owned(), |text, (before, after)| text.replace(before, after))
    }

    #[test]
    fn an_actor_is_replaced_as_a_whole_word_of_a_filter_alone() {
        let other = pseudonym(Uuid::nil());
        let named = |id: &str| Named::Actor(ActorRef::new(ActorType::User, Some(id)).expect("an actor"));
        for (id, text, expected) in [
            ("u1", r#"{"filter": "actor:user:u1"}"#, r#"{"filter": "actor:user:ID"}"#),
            (
                "u1",
                r#"{"filter": "op:update actor:user:u1 last:7d"}"#,
                r#"{"filter": "op:update actor:user:ID last:7d"}"#,
            ),
            (
                "u1",
                r#"{"filter": "actor:user:u12 text:actor:user:u1x"}"#,
                r#"{"filter": "actor:user:u12 text:actor:user:u1x"}"#,
            ),
            (
                "u 1",
                r#"{"filter": "actor:\"user:u 1\" op:update"}"#,
                r#"{"filter": "actor:user:ID op:update"}"#,
            ),
            (
                "u1",
                r#"{"a": {"id": "u1", "type": "user"}, "b": "user:u1"}"#,
                r#"{"a": {"id": "ID", "type": "user"}, "b": "user:ID"}"#,
            ),
            ("u1", r#"{"a": {"id": "u1", "type": "admin"}}"#, r#"{"a": {"id": "u1", "type": "admin"}}"#),
        ] {
            assert_eq!(replaced(&named(id), text), expected.replace("ID", &other), "{id} {text}");
        }
    }

    #[test]
    fn a_row_is_replaced_with_its_table_alone() {
        let key = |text: &str| RowKey::from([("id".to_owned(), text.to_owned())]);
        let table = HostTable { schema: "public".to_owned(), name: "users".to_owned() };
        let named = Named::Row(table, vec![key("7"), key("8")]);
        let other = pseudonym(Uuid::nil());
        for (text, expected) in [
            (r#""table:users key:7""#, r#""table:users key:ID""#),
            (r#""table:public.users key:8 op:update""#, r#""table:public.users key:ID op:update""#),
            (r#""table:users key:77""#, r#""table:users key:77""#),
            (r#""table:posts key:7""#, r#""table:posts key:7""#),
            (r#""table:billing.users key:7""#, r#""table:billing.users key:7""#),
            (r#""table:users key:\"{\\\"id\\\":\\\"7\\\"}\"""#, r#""table:users key:ID""#),
        ] {
            assert_eq!(replaced(&named, text), expected.replace("ID", &other), "{text}");
        }
    }
}
