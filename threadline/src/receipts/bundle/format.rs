//! The lines of a bundle: a header, then for each receipt its line and one for each of its leaves, then rows that no receipt has taken although
//! they claim to be older than the last one, then the end.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use uuid::Uuid;

use super::super::{
    columns::Kind,
    leaf::Hash,
    receipt::Receipt,
    row::{Item, Row, Value},
};
use crate::signing::bytes;

/// Of the format of a bundle.
pub(super) const VERSION: u32 = 1;

/// Bytes of a line, at most.
pub const LINE_MAX: usize = 64 << 20;

/// A value that may stand as its hash and is larger does: the 8 values of a row then are far from filling a line.
pub(super) const VALUE_MAX: usize = 1 << 20;

/// A line, `{"KIND": {…}}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'l> {
    Bundle(Header),
    Receipt(Receipt),
    #[serde(borrow)]
    Row(RowLine<'l>),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) version: u32,
    /// The numbers of the first and the last receipt.
    pub(super) from: i64,
    pub(super) to: i64,
}

/// A row. What no receipt has taken has no leaf; what is gone has no columns.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowLine<'l> {
    pub(super) kind: Kind,
    pub(super) id: Uuid,
    /// In hexadecimal.
    #[serde(borrow)]
    pub(super) leaf: Option<Cow<'l, str>>,
    /// The run of retention that may have purged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) purged: Option<Uuid>,
    #[serde(borrow)]
    pub(super) columns: Option<Columns<'l>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) receipts: u64,
    /// Lines of rows.
    pub(super) rows: u64,
    /// Of all lines before this one, with their line feeds.
    pub(super) sha256: String,
}

/// The columns of a row: written of one, read as they stand.
pub(super) enum Columns<'l> {
    Of(Row<'l>),
    Read(Vec<(Cow<'l, str>, Value<'l>)>),
}

/// A SHA-256 in hexadecimal.
pub(super) fn hash(text: &str) -> Option<Hash> {
    bytes(text).filter(|_| text.len() == 64)?.try_into().ok()
}

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Of(row) => row.serialize(serializer),
            Self::Read(columns) => serializer.collect_map(columns.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl<'de: 'l, 'l> Deserialize<'de> for Columns<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(Cow<'de, str>, Value<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the columns of a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, Value<'de>>()? {
                    columns.push((name.0, value));
                }
                Ok(columns)
            }
        }
        deserializer.deserialize_map(Members).map(Self::Read)
    }
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

impl<'de: 'l, 'l> Deserialize<'de> for Value<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneValue;
        impl<'de> Visitor<'de> for OneValue {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, a text, an array, or {\"sha256\": …}")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Value::Null)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element::<Item>()? {
                    items.push(item);
                }
                Ok(Value::Items(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let known = match map.next_entry::<Text<'de>, Text<'de>>()? {
                    Some((Text(name), Text(digits))) if name == "sha256" => hash(&digits),
                    _ => None,
                };
                match (known, map.next_key::<Text<'de>>()?) {
                    (Some(hash), None) => Ok(Value::Hash(hash)),
                    _ => Err(A::Error::custom("expected the member sha256 with 64 hexadecimal digits alone")),
                }
            }
        }
        deserializer.deserialize_any(OneValue)
    }
}
