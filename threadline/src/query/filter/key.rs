//! The key of a row.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde_json::Value;

use super::FilterError;

/// The key of a row, as capture records it: the texts of its columns by their names.
///
/// In text it is a JSON object, `{"tenant_id":"1","line_no":"7"}`, or the value alone, `7`, where the key has a single column. A value
/// that begins with `{` or `"` is written as a JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The value of the single column of the key.
    Value(String),
    /// Every column of the key.
    Columns(BTreeMap<String, String>),
}

impl Key {
    /// A JSON object as it is stored; of a value alone, a JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Value(value) => Value::from(value.as_str()).to_string(),
            Self::Columns(columns) => {
                let columns = columns.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
                Value::Object(columns.collect()).to_string()
            }
        }
    }
}

impl FromStr for Key {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        const EXPECTED: &str = "a value, or a JSON object of the key's columns";
        let refused = || FilterError::value("key", text, EXPECTED);
        if text.is_empty() {
            return Err(refused());
        }
        if !text.starts_with(['{', '"']) {
            return Ok(Self::Value(text.to_owned()));
        }
        match serde_json::from_str::<Value>(text).map_err(|_| refused())? {
            Value::String(value) if !value.is_empty() => Ok(Self::Value(value)),
            Value::Object(columns) if !columns.is_empty() => columns
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(text) => Ok((name, text)),
                    // As capture renders them. A number that a double does not hold is given as a text.
                    Value::Number(number) if number.is_i64() || number.is_u64() => Ok((name, number.to_string())),
                    _ => Err(refused()),
                })
                .collect::<Result<_, _>>()
                .map(Self::Columns),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) if !value.starts_with(['{', '"']) => f.write_str(value),
            _ => f.write_str(&self.to_json()),
        }
    }
}
