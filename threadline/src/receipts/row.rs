//! A row as it is hashed, read from the database or from a bundle.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    columns::{Column, Form, Kind},
    leaf::{Hash, Leaf},
};
use crate::{
    erasure::{KnownRuns, Mark, Marks},
    signing::{bytes, hexadecimal},
};

/// What the bytes of a row begin with, before its kind and its columns.
const FORMAT: &str = "threadline timeline leaf 1\n";

/// Of these bytes a column begins with one, behind its name.
const NULL: u8 = 0;
const TEXT: u8 = 1;
const HASH: u8 = 2;
const ITEMS: u8 = 3;

/// A row of one of the three tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'r> {
    pub(super) kind: Kind,
    pub(super) id: Uuid,
    /// In the order of the columns.
    values: Vec<Value<'r>>,
    /// What the row says of what was erased of it.
    pub(super) erased: Option<Erased>,
}

/// What was erased of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Erased {
    /// So many values, the last of them by this run. Hashes that were kept stand in their place.
    By(Uuid, u64),
    /// A run that is not known says so, or what stands there is not what erasing leaves: what stands there counts.
    Unexplained,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'r> {
    Null,
    Text(Cow<'r, str>),
    Items(Vec<Item>),
    /// The hash alone: the value was erased, or is too large for a bundle.
    Hash(Hash),
}

/// An item of an array; PostgreSQL's have as many dimensions as somebody likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    Null(()),
    Text(String),
    Items(Vec<Item>),
}

impl<'r> Row<'r> {
    /// Of [`Kind::select`], which begins at the column `first`. None where the row is not there: its id is null.
    pub(super) fn read(
        row: &'r PgRow,
        first: usize,
        kind: Kind,
        runs: &KnownRuns,
    ) -> Result<Option<Self>, sqlx::Error> {
        let Some(id) = row.try_get(first)? else { return Ok(None) };
        let columns = kind.columns();
        let values = columns.iter().zip(first..).map(|(column, at)| Value::read(row, at, column));
        let mut row_of = Self { kind, id, values: values.collect::<Result<_, _>>()?, erased: None };
        if let Some(marks) = row.try_get::<Option<&str>, _>(first + columns.len())? {
            row_of.take_erased(marks, runs);
        }
        Ok(Some(row_of))
    }

    /// Puts the hashes that were kept in the place of what erasing has left, where all of it is explained.
    fn take_erased(&mut self, marks: &str, runs: &KnownRuns) {
        let kept = |marks: &Marks| -> Option<Vec<(usize, Hash)>> {
            let one = |(name, mark): (&String, &Mark)| {
                let at = self.kind.columns().iter().position(|column| column.name == name)?;
                let is_erasable = self.kind.columns().get(at)?.form == Form::Erasable;
                let Value::Text(text) = self.values.get(at)? else { return None };
                let hash = bytes(&mark.sha256).filter(|_| mark.sha256.len() == 64)?.try_into().ok()?;
                (is_erasable && runs.leave(name, mark, text)).then_some((at, hash))
            };
            marks.columns.iter().map(one).collect()
        };
        let marks: Option<Marks> = serde_json::from_str(marks).ok();
        let explained =
            marks.filter(|marks| runs.has(marks.run)).and_then(|marks| Some((kept(&marks)?, marks)));
        self.erased = Some(match explained {
            Some((kept, marks)) => {
                for (at, hash) in kept {
                    if let Some(value) = self.values.get_mut(at) {
                        *value = Value::Hash(hash);
                    }
                }
                Erased::By(marks.run, marks.values())
            }
            None => Erased::Unexplained,
        });
    }

    /// Of columns by their names, which have to be exactly those of the kind, in their order.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(super) fn of(kind: Kind, columns: Vec<(Cow<'r, str>, Value<'r>)>) -> Result<Self, String> {
        let expected = kind.columns();
        let is_expected = columns.len() == expected.len()
            && expected.iter().zip(&columns).all(|(column, (name, _))| column.name == name);
        if !is_expected {
            return Err(format!("it has not exactly the columns of {}, in their order", kind.table()));
        }
        for (column, (name, value)) in expected.iter().zip(&columns) {
            let fits = match value {
                Value::Null => true,
                Value::Text(_) => column.form != Form::Texts,
                Value::Items(_) => column.form == Form::Texts,
                Value::Hash(_) => column.form == Form::Erasable,
            };
            if !fits {
                return Err(format!("the value of {name} has another form than that column has"));
            }
        }
        let id = match columns.first() {
            Some((_, Value::Text(id))) => Uuid::parse_str(id).map_err(|_| "its id is no UUID".to_owned())?,
            _ => return Err("it has no id".to_owned()),
        };
        let values = columns.into_iter().map(|(_, value)| value).collect();
        Ok(Self { kind, id, values, erased: None })
    }

    /// What is sealed of it.
    pub(super) fn leaf(&self) -> Leaf {
        let mut hasher = Sha256::new_with_prefix(FORMAT);
        hasher.update(self.kind.as_str());
        hasher.update("\n");
        for (column, value) in self.kind.columns().iter().zip(&self.values) {
            hasher.update(column.name);
            if let Some(hash) = value_hash(column, value) {
                hasher.update([HASH]);
                hasher.update(hash);
                continue;
            }
            match value {
                Value::Text(text) => update_text(text, &mut hasher),
                Value::Items(items) => update_items(items, &mut hasher),
                Value::Null | Value::Hash(_) => hasher.update([NULL]),
            }
        }
        Leaf { kind: self.kind, id: self.id, hash: hasher.finalize().into() }
    }

    /// The text of a column; none where it is null, no text, or left out.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let at = self.kind.columns().iter().position(|column| column.name == name)?;
        match self.values.get(at)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Leaves the hash of each value that may be left out and is larger.
    pub(super) fn without_larger(mut self, bytes_max: usize) -> Self {
        for (column, value) in self.kind.columns().iter().zip(&mut self.values) {
            let is_larger = matches!(value, Value::Text(text) if text.len() > bytes_max);
            if let Some(hash) = value_hash(column, value).filter(|_| is_larger) {
                *value = Value::Hash(hash);
            }
        }
        self
    }

    /// How many of its values are known by their hashes alone.
    pub(super) fn withheld(&self) -> u64 {
        self.values.iter().map(|value| u64::from(matches!(value, Value::Hash(_)))).sum()
    }
}

/// The hash as which a value enters the row's, if it does so and is not null.
fn value_hash(column: &Column, value: &Value<'_>) -> Option<Hash> {
    match value {
        Value::Hash(hash) => Some(*hash),
        Value::Text(text) if column.form == Form::Erasable => Some(Sha256::digest(text.as_bytes()).into()),
        _ => None,
    }
}

fn update_text(text: &str, hasher: &mut Sha256) {
    hasher.update([TEXT]);
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text);
}

fn update_items(items: &[Item], hasher: &mut Sha256) {
    hasher.update([ITEMS]);
    hasher.update((items.len() as u64).to_be_bytes());
    for item in items {
        match item {
            Item::Null(()) => hasher.update([NULL]),
            Item::Text(text) => update_text(text, hasher),
            Item::Items(items) => update_items(items, hasher),
        }
    }
}

impl<'r> Value<'r> {
    fn read(row: &'r PgRow, at: usize, column: &Column) -> Result<Self, sqlx::Error> {
        let text = match column.form {
            Form::Id => row.try_get::<Option<Uuid>, _>(at)?.map(|id| id.to_string().into()),
            // What the server sends of a time is the integer that is hashed; a driver's time knows no infinity.
            Form::Integer | Form::Time => {
                row.try_get_unchecked::<Option<i64>, _>(at)?.map(|number| number.to_string().into())
            }
            Form::Text | Form::Erasable => row.try_get::<Option<&str>, _>(at)?.map(Cow::Borrowed),
            Form::Texts => {
                let Some(items) = row.try_get::<Option<&str>, _>(at)? else { return Ok(Self::Null) };
                let items = serde_json::from_str(items).map_err(|error| sqlx::Error::Decode(error.into()))?;
                return Ok(Self::Items(items));
            }
        };
        Ok(text.map_or(Self::Null, Self::Text))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (column, value) in self.kind.columns().iter().zip(&self.values) {
            map.serialize_entry(column.name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Items(items) => items.serialize(serializer),
            Self::Hash(hash) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("sha256", &hexadecimal(hash))?;
                map.end()
            }
        }
    }
}
