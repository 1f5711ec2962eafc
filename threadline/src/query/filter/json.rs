//! A filter as a JSON object of texts: `{"table": "posts", "op": "update"}`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::Value;

use super::{
    Filter, FilterError,
    terms::{self, Given},
};

/// Reads a filter from JSON.
///
/// # Errors
/// [`FilterError::Json`] for what is no object of texts, and every other [`FilterError`].
pub fn from_json(text: &str) -> Result<Filter, FilterError> {
    let Pairs(pairs) = serde_json::from_str(text).map_err(|error| FilterError::json(&error.to_string()))?;
    filter(pairs)
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<_> = terms::written(self).collect();
        let mut map = serializer.serialize_map(Some(pairs.len()))?;
        for (key, value) in pairs {
            map.serialize_entry(key, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Pairs(pairs) = Pairs::deserialize(deserializer)?;
        filter(pairs).map_err(D::Error::custom)
    }
}

/// The members of an object as they are there: a map would keep one of two that have the same name.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

fn filter(pairs: Vec<(String, Value)>) -> Result<Filter, FilterError> {
    let mut given = Given::default();
    for (name, value) in pairs {
        let key = terms::key(&name)?;
        let text = match value {
            Value::String(text) => text,
            other => return Err(FilterError::json(&format!("{key} is {}", what(&other)))),
        };
        given.add(key, text)?;
    }
    given.filter()
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null: leave it out",
        Value::Bool(_) => "true or false: write it in quotes",
        Value::Number(_) => "a number: write it in quotes",
        Value::String(_) => "a text",
        Value::Array(_) => "an array: a key has one value",
        Value::Object(_) => "an object: write it as a text",
    }
}
