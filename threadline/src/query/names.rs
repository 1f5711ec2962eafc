//! Names of columns, as an array of texts holds them.

use std::ops::Deref;

use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueFormat, PgValueRef},
};

/// Names of columns. An array that somebody has written by hand may hold nulls, and have several dimensions: the names in it count, in their
/// order, and as JSON it is written as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    names: Vec<String>,
    /// Where that is more than the names say.
    stored: Option<Value>,
}

impl Deref for Names {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.names
    }
}

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        Self { names, stored: None }
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        names.names
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.stored {
            Some(stored) => stored.serialize(serializer),
            None => self.names.serialize(serializer),
        }
    }
}

impl Type<Postgres> for Names {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as Type<Postgres>>::type_info()
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        <Vec<String> as Type<Postgres>>::compatible(info)
    }
}

impl<'r> Decode<'r, Postgres> for Names {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Self::read(value.as_bytes()?),
            PgValueFormat::Text => <Vec<String> as Decode<'_, Postgres>>::decode(value).map(Self::from),
        }
    }
}

impl Names {
    /// Of an array as the server sends it: the number of dimensions, whether there are nulls, the type; of each dimension its length and where its
    /// numbering begins; of each item its length, -1 of a null, and its bytes (PostgreSQL, `array_send`).
    fn read(mut bytes: &[u8]) -> Result<Self, BoxDynError> {
        let dimensions = number(&mut bytes)?;
        let (_has_nulls, _type) = (number(&mut bytes)?, number(&mut bytes)?);
        let mut lengths = Vec::new();
        for _ in 0..dimensions {
            lengths.push(usize::try_from(number(&mut bytes)?)?);
            number(&mut bytes)?;
        }
        let mut items: Vec<Option<String>> = Vec::new();
        while !bytes.is_empty() {
            let Ok(length) = usize::try_from(number(&mut bytes)?) else {
                items.push(None);
                continue;
            };
            let (item, rest) = bytes.split_at_checked(length).ok_or("an item of an array is cut")?;
            items.push(Some(str::from_utf8(item)?.to_owned()));
            bytes = rest;
        }
        let is_plain = dimensions <= 1 && items.iter().all(Option::is_some);
        let stored = (!is_plain).then(|| nested(&mut items.iter(), &lengths));
        Ok(Self { names: items.into_iter().flatten().collect(), stored })
    }
}

fn number(bytes: &mut &[u8]) -> Result<i32, BoxDynError> {
    let (number, rest) = bytes.split_first_chunk().ok_or("an array is cut")?;
    *bytes = rest;
    Ok(i32::from_be_bytes(*number))
}

fn nested<'i>(items: &mut impl Iterator<Item = &'i Option<String>>, lengths: &[usize]) -> Value {
    match lengths {
        [] => Value::Null,
        [length] => items.take(*length).cloned().map(Value::from).collect(),
        [length, inner @ ..] => (0..*length).map(|_| nested(items, inner)).collect(),
    }
}
