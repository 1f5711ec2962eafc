//! The key of a row.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

use super::{FilterError, terms::NO_NUL};

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

impl Key {
    pub(super) fn check(&self) -> Result<(), FilterError> {
        self.lacks().map_or(Ok(()), |expected| Err(FilterError::value("key", &self.to_string(), expected)))
    }

    /// What is expected of it and not there: a key has columns, and columns have names, and texts that PostgreSQL can hold.
    fn lacks(&self) -> Option<&'static str> {
        let (is_empty, has_nul) = match self {
            Self::Value(value) => (value.is_empty(), value.contains('\0')),
            Self::Columns(columns) => (
                columns.is_empty() || columns.contains_key(""),
                columns.iter().any(|(name, text)| name.contains('\0') || text.contains('\0')),
            ),
        };
        match (is_empty, has_nul) {
            (true, _) => Some(EXPECTED),
            (_, true) => Some(NO_NUL),
            _ => None,
        }
    }
}

const EXPECTED: &str = r#"a value, or a JSON object of the key's columns with texts, such as {"id":"7"}"#;

/// A JSON object whose members are all different: of two with one name, a map would keep the last one.
struct Columns(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut columns = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            let text = match value {
                Value::String(text) => text,
                // As capture renders them. A number that a double does not hold is given as a text.
                Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
                _ => return Err(A::Error::custom("no text")),
            };
            if columns.insert(name, text).is_some() {
                return Err(A::Error::custom("a column twice"));
            }
        }
        Ok(Columns(columns))
    }
}

impl FromStr for Key {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let read = match text.chars().next() {
            Some('{') => serde_json::from_str(text).map(|Columns(columns)| Self::Columns(columns)),
            Some('"') => serde_json::from_str(text).map(Self::Value),
            _ => Ok(Self::Value(text.to_owned())),
        };
        let key = read.map_err(|_| FilterError::value("key", text, EXPECTED))?;
        key.lacks().map_or(Ok(key), |expected| Err(FilterError::value("key", text, expected)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn columns<const N: usize>(columns: [(&str, &str); N]) -> Key {
        Key::Columns(columns.map(|(name, text)| (name.to_owned(), text.to_owned())).into())
    }

    fn value(text: &str) -> Key {
        Key::Value(text.to_owned())
    }

    #[test]
    fn a_key_is_a_value_or_an_object_of_columns() {
        for (text, key) in [
            ("7", value("7")),
            ("a b", value("a b")),
            (r#"a"b"#, value(r#"a"b"#)),
            ("[1]", value("[1]")),
            (r#""{x}""#, value("{x}")),
            (r#""\"quoted\"""#, value(r#""quoted""#)),
            (r#"{"id":""}"#, columns([("id", "")])),
            (r#"{"line_no":"7","tenant_id":"1"}"#, columns([("tenant_id", "1"), ("line_no", "7")])),
        ] {
            assert_eq!(text.parse(), Ok(key.clone()), "{text}");
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn whole_numbers_in_an_object_are_read_as_their_digits() {
        assert_eq!(
            r#"{"id": 18446744073709551615, "n": -7}"#.parse(),
            Ok(columns([("id", "18446744073709551615"), ("n", "-7")]))
        );
        assert_eq!(r#"{ "id" : "1" }"#.parse(), Ok(columns([("id", "1")])));
        assert_eq!(r#""7""#.parse(), Ok(value("7")), "quotes that are not needed are read too");
    }

    #[test]
    fn what_is_no_text_by_a_name_is_no_key() {
        for text in [
            "",
            "{",
            "{}",
            r#""""#,
            r#""open"#,
            r#"{"":"1"}"#,
            r#"{"id":1.5}"#,
            r#"{"id":18446744073709551616}"#,
            r#"{"id":null}"#,
            r#"{"id":true}"#,
            r#"{"id":{}}"#,
            r#"{"id":["1"]}"#,
            r#"{"id":"1"} x"#,
            r#"{"id":"1","id":"2"}"#,
            r#""1" "2""#,
        ] {
            assert_eq!(text.parse::<Key>(), Err(FilterError::value("key", text, EXPECTED)), "{text}");
        }
    }

    #[test]
    fn no_key_holds_what_postgresql_cannot() {
        for key in [value("a\0"), value("{\0"), columns([("id", "a\0")]), columns([("i\0d", "a")])] {
            let refused = Err(FilterError::value("key", &key.to_string(), NO_NUL));
            assert_eq!(key.check(), refused);
            assert_eq!(key.to_string().parse::<Key>().map(drop), refused);
        }
    }

    #[test]
    fn json_is_as_it_is_stored() {
        assert_eq!(columns([("b", "2"), ("a", "x\"y")]).to_json(), r#"{"a":"x\"y","b":"2"}"#);
        assert_eq!(value("7").to_json(), r#""7""#);
    }
}
