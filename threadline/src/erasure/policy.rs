//! Where a person's values stand, as settings or a program say it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    ActorType,
    capture::{HostTable, Refusal},
};

/// Which tables hold values of a person, and in which columns.
///
/// ```
/// use threadline::erasure::ErasurePolicy;
///
/// # fn main() -> Result<(), threadline::capture::Refusal> {
/// let policy = ErasurePolicy::default()
///     .table("public.users".parse()?, "id", ["email", "name"])
///     .table("public.posts".parse()?, "author_id", ["body"]);
/// # let _ = policy;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasurePolicy {
    pub(super) tables: BTreeMap<HostTable, Columns>,
    pub(super) actor: Option<ActorType>,
}

/// What is erased of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// The column that says whose row it is.
    pub(super) subject: String,
    /// Those that are erased.
    pub(super) columns: Vec<String>,
}

const SECTION: &str = "[erasure]";

impl ErasurePolicy {
    /// Erases these columns of rows whose column `subject` names the person.
    #[must_use]
    pub fn table<C: Into<String>>(
        mut self,
        table: HostTable,
        subject: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        self.tables.insert(table, Columns { subject: subject.into(), columns });
        self
    }

    /// Erases the person as an actor of this type too.
    #[must_use]
    pub fn actor(self, kind: ActorType) -> Self {
        Self { actor: Some(kind), ..self }
    }

    /// Of the section `[erasure]` of settings.
    ///
    /// # Errors
    /// What cannot be used: `option_unknown`, `option_invalid`, `table_name_invalid`, `table_twice`.
    pub fn read(section: &Map<String, Value>) -> Result<Self, Refusal> {
        refuse_unknown(SECTION, section, &["actor", "tables"])?;
        let mut policy = Self::default();
        if let Some(actor) = section.get("actor") {
            let kind = actor.as_str().and_then(|kind| kind.parse().ok());
            policy.actor = kind.filter(|kind| *kind != ActorType::Anonymous);
            if policy.actor.is_none() {
                let reason = format!("{SECTION} actor is no type of an actor that has an id");
                return Err(Refusal::new("option_invalid", reason).hint("actor = \"user\""));
            }
        }
        let Some(tables) = section.get("tables") else { return Ok(policy) };
        let tables = tables.as_object().ok_or_else(|| {
            Refusal::new("option_invalid", "[erasure.tables] is no table of settings").hint(EXAMPLE)
        })?;
        for (name, section) in tables {
            let table: HostTable = name.parse()?;
            let columns = Columns::read(&format!("[erasure.tables] {table}"), section)?;
            if policy.tables.insert(table.clone(), columns).is_some() {
                let reason = format!("[erasure.tables] has {table} twice");
                return Err(Refusal::new("table_twice", reason).hint("leave one of them"));
            }
        }
        Ok(policy)
    }

    /// As a run records it.
    pub(super) fn to_json(&self) -> Value {
        let tables = self
            .tables
            .iter()
            .map(|(table, of)| (table.to_string(), json!({"subject": of.subject, "columns": of.columns})));
        json!({
            "tables": tables.collect::<Map<_, _>>(),
            "actor": self.actor.map(ActorType::as_str),
        })
    }
}

const EXAMPLE: &str = "\"public.users\" = { subject = \"id\", columns = [\"email\"] }";

impl Columns {
    fn read(place: &str, section: &Value) -> Result<Self, Refusal> {
        let refused = |why: &str| Refusal::new("option_invalid", format!("{place} {why}")).hint(EXAMPLE);
        let section = section.as_object().ok_or_else(|| refused("is no table of settings"))?;
        refuse_unknown(place, section, &["subject", "columns"])?;
        let name = |value: &Value| {
            value.as_str().filter(|name| !name.is_empty() && !name.contains('\0')).map(str::to_owned)
        };
        let subject = section.get("subject").and_then(name);
        let subject = subject.ok_or_else(|| refused("does not say the column subject"))?;
        let columns = section.get("columns").and_then(Value::as_array).filter(|columns| !columns.is_empty());
        let columns = columns.ok_or_else(|| refused("does not say the list columns"))?;
        let columns: Option<Vec<String>> = columns.iter().map(name).collect();
        Ok(Self { subject, columns: columns.ok_or_else(|| refused("has a column that is no name"))? })
    }
}

fn refuse_unknown(place: &str, section: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match section.keys().find(|option| !known.contains(&option.as_str())) {
        None => Ok(()),
        Some(option) => {
            let reason = format!("{place} has an option {option}, which there is not");
            Err(Refusal::new("option_unknown", reason).hint(format!("there are {}", known.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &Value) -> Result<ErasurePolicy, &'static str> {
        ErasurePolicy::read(section.as_object().expect("an object")).map_err(|refusal| refusal.term)
    }

    #[test]
    fn a_section_is_read_and_what_cannot_be_used_has_a_term() {
        let section = json!({"actor": "user", "tables": {"users": {"subject": "id", "columns": ["email"]}}});
        let table = "public.users".parse().expect("a table");
        let expected = ErasurePolicy::default().table(table, "id", ["email"]).actor(ActorType::User);
        assert_eq!(read(&section), Ok(expected));
        for (section, term) in [
            (json!({"colour": 1}), "option_unknown"),
            (json!({"actor": "anonymous"}), "option_invalid"),
            (json!({"actor": "robot"}), "option_invalid"),
            (json!({"tables": []}), "option_invalid"),
            (json!({"tables": {"users": 7}}), "option_invalid"),
            (json!({"tables": {"users": {"columns": ["email"]}}}), "option_invalid"),
            (json!({"tables": {"users": {"subject": "id", "columns": []}}}), "option_invalid"),
            (json!({"tables": {"users": {"subject": "id", "columns": [7]}}}), "option_invalid"),
            (
                json!({"tables": {"users": {"subject": "id", "columns": ["a"], "key_too": true}}}),
                "option_unknown",
            ),
            (json!({"tables": {"a.b.c": {"subject": "id", "columns": ["a"]}}}), "table_name_invalid"),
            (
                json!({"tables": {"users": {"subject": "id", "columns": ["a"]}, "public.users": {"subject": "id", "columns": ["a"]}}}),
                "table_twice",
            ),
        ] {
            assert_eq!(read(&section), Err(term), "{section}");
        }
    }
}
