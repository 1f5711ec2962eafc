//! What of each row can be restored.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Refused,
    current::{self, Answer},
    image::{Held, Image},
    net::{Effect, Net},
    reason::Reason,
    target::{Column, Target},
    value::{self, Value},
};
use crate::{
    capture::HostTable,
    query::{Json, canonical},
};

/// A statement before it is written.
#[derive(Debug)]
pub(super) struct Draft<'t> {
    pub(super) target: &'t Target,
    pub(super) changes: Vec<Uuid>,
    /// By which the row is found, or which it gets.
    pub(super) key: Json,
    pub(super) action: Action,
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Action {
    Update(Vec<Field>),
    Insert(Vec<Field>),
    /// The row without its hidden columns has to be this.
    Delete {
        without: Vec<String>,
        image: Json,
    },
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Value,
    /// Of an update, what has to be there.
    pub(super) now: Value,
}

/// Rows of a table that are found by the same columns.
pub(super) struct Group<'t> {
    pub(super) target: &'t Target,
    pub(super) key: Vec<String>,
    /// Which of those that were given.
    pub(super) numbers: Vec<usize>,
}

/// What is asked of a row, and to whom its answer matters.
struct Attempt<'t, 'r> {
    target: &'t Target,
    net: Net,
    sees_all: bool,
    refused: &'r mut Vec<Refused>,
}

/// In the order of the nets.
pub(super) async fn drafts<'t>(
    snapshot: &mut PgConnection,
    nets: Vec<Net>,
    targets: &'t BTreeMap<HostTable, Target>,
    sees_all: bool,
    refused: &mut Vec<Refused>,
) -> Result<Vec<Draft<'t>>, sqlx::Error> {
    let mut usable = Vec::new();
    for net in nets {
        match usable_target(&net, targets) {
            Ok(target) => usable.push((net, target)),
            Err(reason) => refused.push(reason.of(&net.table, &net.changes, &net.key)),
        }
    }
    let asked: Vec<(&Target, &Json)> = usable.iter().map(|(net, target)| (*target, &net.key)).collect();
    let mut answers = vec![Answer::Nothing; asked.len()];
    for Group { target, key, numbers } in grouped(&asked) {
        let keys: Vec<Json> = numbers.iter().map(|n| asked[*n].1.clone()).collect();
        let found = current::rows(snapshot, target, &key, &keys).await?;
        numbers.iter().zip(found).for_each(|(n, answer)| answers[*n] = answer);
    }
    let mut drafts = Vec::new();
    for ((net, target), answer) in usable.into_iter().zip(answers) {
        drafts.extend(Attempt { target, net, sees_all, refused }.draft(&answer));
    }
    Ok(drafts)
}

fn usable_target<'t>(net: &Net, targets: &'t BTreeMap<HostTable, Target>) -> Result<&'t Target, Reason> {
    let target = (targets.get(&net.table))
        .ok_or_else(|| Reason::new("table_missing", "there is no such table: it was removed or renamed"))?;
    if target.policy.is_none() {
        let reason =
            "it is not known what of the table is redacted: its triggers have no policy that can be read";
        return Err(Reason::new("policy_unknown", reason));
    }
    let names = canonical::members(&net.key);
    if let Some(missing) = names.keys().find(|name| !target.columns.contains_key(*name)) {
        return Err(Reason::new("key_unknown", format!("the table has no column {missing} of the key")));
    }
    Ok(target)
}

/// Rows that are found alike.
pub(super) fn grouped<'t>(rows: &[(&'t Target, &Json)]) -> Vec<Group<'t>> {
    let mut groups: BTreeMap<(&HostTable, Vec<String>), Group<'t>> = BTreeMap::new();
    for (number, (target, key)) in rows.iter().enumerate() {
        let key: Vec<String> = canonical::members(key).into_keys().collect();
        let group = || Group { target, key: key.clone(), numbers: Vec::new() };
        groups.entry((&target.name, key.clone())).or_insert_with(group).numbers.push(number);
    }
    groups.into_values().collect()
}

impl<'t> Attempt<'t, '_> {
    fn draft(mut self, answer: &Answer) -> Option<Draft<'t>> {
        let (now, nulls) = match (answer, &self.net.effect) {
            (Answer::Unreadable, _) => {
                return self.refuse(
                    "unreadable",
                    "the row cannot be read: no right on the table, or its form has changed",
                );
            }
            (Answer::Several, _) => {
                return self
                    .refuse("key_ambiguous", "several rows have this key: the key of the table has changed");
            }
            (Answer::Nothing, Effect::Deleted { .. }) => (BTreeMap::new(), &Vec::new()),
            (Answer::Nothing, _) => {
                return self.refuse("row_missing", "there is no row with this key any more");
            }
            (Answer::One(..), Effect::Deleted { .. }) => {
                return self.refuse("row_present", "there is a row with this key again");
            }
            (Answer::One(_, nulls), _) => (answer.members(), nulls),
        };
        let effect = std::mem::replace(&mut self.net.effect, Effect::Deleted { before: None });
        match effect {
            Effect::Updated { before, after } => self.update(&before, &after, &now, nulls),
            Effect::Replaced { before, after } => self.replace(&before, &after, &now, nulls),
            Effect::Inserted { after } => self.delete(&after, now),
            Effect::Deleted { before } => self.insert(before),
        }
    }

    fn refuse(&mut self, term: &'static str, text: impl Into<String>) -> Option<Draft<'t>> {
        self.push(None, Reason::new(term, text));
        None
    }

    fn push(&mut self, field: Option<&String>, reason: Reason) {
        let refused = reason.of(&self.net.table, &self.net.changes, &self.net.key);
        self.refused.push(Refused { field: field.cloned(), ..refused });
    }

    fn made(self, action: Action, notes: Vec<String>) -> Draft<'t> {
        let key = self.net.key.clone();
        let changes = self.net.changes.into_iter().rev().collect();
        Draft { target: self.target, changes, key, action, notes }
    }

    /// Field by field: others stay in the plan where one has a conflict.
    fn update(
        mut self,
        before: &Image,
        after: &Image,
        now: &BTreeMap<String, Json>,
        nulls: &[String],
    ) -> Option<Draft<'t>> {
        let fields = self.fields(before, after, now, nulls);
        self.updated(fields)
    }

    /// All or nothing: some values of the one row and some of the other would be a row that never was.
    fn replace(
        mut self,
        before: &Image,
        after: &Image,
        now: &BTreeMap<String, Json>,
        nulls: &[String],
    ) -> Option<Draft<'t>> {
        let refused = self.refused.len();
        let fields = self.fields(before, after, now, nulls);
        if self.refused.len() > refused {
            for Field { name, .. } in &fields {
                let reason = "the row was deleted and inserted again, and not all of it can be set back";
                self.push(Some(name), Reason::new("row_incomplete", reason));
            }
            return None;
        }
        self.updated(fields)
    }

    fn updated(self, fields: Vec<Field>) -> Option<Draft<'t>> {
        let notes = self.notes_of_documents(&fields);
        (!fields.is_empty()).then(|| self.made(Action::Update(fields), notes))
    }

    /// What is set back; what cannot be is refused.
    fn fields(
        &mut self,
        before: &Image,
        after: &Image,
        now: &BTreeMap<String, Json>,
        nulls: &[String],
    ) -> Vec<Field> {
        let mut fields = Vec::new();
        for (name, held) in before {
            if self.target.columns.get(name).is_some_and(|column| column.is_generated) {
                continue;
            }
            let restored = self.restored(name, held.as_ref());
            // Two values that are redacted differ although they show the same.
            if is_same(held.as_ref(), after.get(name))
                && !self.nulls_differ(name, held.as_ref(), after.get(name))
                && !restored.as_ref().is_err_and(Reason::hides)
            {
                continue;
            }
            match restored.and_then(|value| self.field(name, value, after, now, nulls)) {
                Ok(field) => fields.push(field),
                Err(reason) => self.push(Some(name), reason),
            }
        }
        fields
    }

    fn field(
        &self,
        name: &str,
        value: Value,
        after: &Image,
        now: &BTreeMap<String, Json>,
        nulls: &[String],
    ) -> Result<Field, Reason> {
        if self.target.columns.get(name).is_some_and(|column| column.is_identity) {
            return Err(Reason::new("identity", "the column is an identity that no update can set"));
        }
        let Some(now) = now.get(name) else {
            return Err(value::column_missing());
        };
        let Some(wrote) = after.get(name).and_then(Option::as_ref) else {
            return Err(Reason::new("cut", "the image after the change does not hold the field"));
        };
        if wrote.document.get() != now.get() {
            return Err(self.conflict(
                "it is not what the change wrote any more",
                Some(&wrote.document),
                Some(now),
            ));
        }
        let is_document = self.target.columns.get(name).is_some_and(|column| column.is_document);
        let is_sql_null = !is_document || nulls.iter().any(|null| null == name);
        if is_document && now.get() == "null" && wrote.is_sql_null.is_some_and(|wrote| wrote != is_sql_null) {
            let text = "it is another null than the change wrote, of SQL or of JSON";
            return Err(self.conflict(text, Some(&wrote.document), Some(now)));
        }
        Ok(Field { name: name.to_owned(), value, now: Value::of(now, is_sql_null) })
    }

    /// Whether both are null in a column of documents, and one may be SQL's and the other one JSON's.
    fn nulls_differ(&self, name: &str, before: Option<&Held>, after: Option<&Option<Held>>) -> bool {
        let Some(column) = self.target.columns.get(name).filter(|column| column.is_document) else {
            return false;
        };
        matches!((before, after), (Some(before), Some(Some(after)))
            if before.document.get() == "null" && after.document.get() == "null"
                && before.is_sql_null.or(column.is_not_null.then_some(false)) != after.is_sql_null)
    }

    fn restored(&self, name: &str, held: Option<&Held>) -> Result<Value, Reason> {
        value::restorable(self.target, name, held, self.net.since)
    }

    fn conflict(&self, text: &str, wrote: Option<&Json>, now: Option<&Json>) -> Reason {
        let now = now.filter(|_| self.sees_all).cloned();
        Reason { wrote: wrote.cloned(), now, ..Reason::new("conflict", text) }
    }

    fn delete(mut self, image: &Image, mut now: BTreeMap<String, Json>) -> Option<Draft<'t>> {
        let target = self.target;
        let mut without: Vec<String> = target.hidden();
        without.extend(
            target.columns.values().filter(|column| column.is_virtual).map(|column| column.name.clone()),
        );
        now.retain(|name, _| !without.contains(name));
        let before = self.refused.len();
        for (name, held) in image.iter().filter(|(name, _)| !without.contains(name)) {
            let wrote = held.as_ref().map(|held| &held.document);
            match now.get(name) {
                None => self.push(Some(name), value::column_missing()),
                Some(document) if wrote.is_none_or(|wrote| wrote.get() != document.get()) => {
                    let reason = self.conflict("it is not what was inserted any more", wrote, Some(document));
                    self.push(Some(name), reason);
                }
                Some(_) => {}
            }
        }
        for (name, document) in &now {
            if !image.contains_key(name) && document.get() != "null" {
                let reason = self.conflict("the column came later, and has a value", None, Some(document));
                self.push(Some(name), reason);
            }
        }
        if self.refused.len() > before {
            return None;
        }
        let mut notes = Vec::new();
        let hidden = target.hidden();
        if !hidden.is_empty() {
            notes.push(format!("not compared, and lost, since they are redacted: {}", hidden.join(", ")));
        }
        if !target.dependents.is_empty() {
            notes.push(format!(
                "rows of these that refer to it go or change with it: {}",
                target.dependents.join(", ")
            ));
        }
        let image = value::object(now.iter().map(|(name, document)| (name, document.get())));
        Some(self.made(Action::Delete { without, image }, notes))
    }

    /// All or nothing: a row without some of its values is another one.
    fn insert(mut self, image: Option<Image>) -> Option<Draft<'t>> {
        let Some(image) = image else {
            return self.refuse("image_missing", "what was deleted was not stored");
        };
        let target = self.target;
        let hidden = target.hidden();
        if !hidden.is_empty() {
            return self.refuse("redacted", format!("the table has redacted columns: {}", hidden.join(", ")));
        }
        if target.policy_since.is_none_or(|since| self.net.since < since) {
            self.push(None, value::policy_newer());
            return None;
        }
        let before = self.refused.len();
        let mut fields = Vec::new();
        for (name, held) in &image {
            if target.columns.get(name).is_some_and(|column| column.is_generated) {
                continue;
            }
            match self.restored(name, held.as_ref()) {
                Ok(value) => fields.push(Field { name: name.clone(), value, now: Value::SqlNull }),
                Err(reason) => self.push(Some(name), reason),
            }
        }
        let is_needed = |column: &&Column| {
            !column.is_generated
                && column.is_not_null
                && !column.has_default
                && !image.contains_key(&column.name)
        };
        for column in target.columns_in_order().into_iter().filter(is_needed) {
            let reason =
                "the column takes no null and has no default, and what was deleted has no value for it";
            self.push(Some(&column.name), Reason::new("column_required", reason));
        }
        if self.refused.len() > before {
            return None;
        }
        let notes = self.notes_of_documents(&fields);
        Some(self.made(Action::Insert(fields), notes))
    }

    fn notes_of_documents(&self, fields: &[Field]) -> Vec<String> {
        let is_json =
            |field: &&Field| self.target.columns.get(&field.name).is_some_and(|column| column.is_json);
        let names: Vec<&str> = fields.iter().filter(is_json).map(|field| field.name.as_str()).collect();
        if names.is_empty() {
            return Vec::new();
        }
        vec![format!("equal documents, with the spaces and the order of jsonb: {}", names.join(", "))]
    }
}

fn is_same(before: Option<&Held>, after: Option<&Option<Held>>) -> bool {
    matches!((before, after), (Some(before), Some(Some(after))) if before.document.get() == after.document.get())
}

impl Field {
    /// How an image shows its value; nothing for a null that a record cannot be filled with.
    pub(super) fn shown(&self) -> Option<(&String, &str)> {
        self.value.shown().map(|shown| (&self.name, shown))
    }
}

impl Draft<'_> {
    pub(super) fn fields(&self) -> &[Field] {
        match &self.action {
            Action::Update(fields) | Action::Insert(fields) => fields,
            Action::Delete { .. } => &[],
        }
    }

    /// The values of its fields, as a record is filled with them.
    pub(super) fn document(&self) -> String {
        value::object(self.fields().iter().filter_map(Field::shown)).get().to_owned()
    }
}
