//! JSON documents as they are given.

use std::{fmt, str::FromStr};

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{capture::Refusal, query::Json};

/// A JSON document as it was given: every digit is there, which a [`Value`] does not keep of large numbers.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Document(Json);

impl Document {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.text().starts_with('{')
    }
}

impl Default for Document {
    /// An object without members.
    fn default() -> Self {
        Value::Object(serde_json::Map::new()).into()
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl From<Json> for Document {
    fn from(json: Json) -> Self {
        Self(json)
    }
}

impl FromStr for Document {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| Refusal::new("invalid_json", format!("it is no JSON: {error}")))
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_what_was_given() {
        for text in [r#"{"n":123456789012345678901234567890.10}"#, "[]", "null", r#""x""#, "1e999"] {
            let document: Document = text.parse().expect(text);
            assert_eq!(document.text(), text);
            assert_eq!(document.is_object(), text.starts_with('{'), "{text}");
        }
        assert_eq!(" {\"a\": 1}\n".parse::<Document>().expect("JSON").text(), "{\"a\": 1}");
        assert_eq!(Document::from(json!({"b": 1, "a": [true]})).text(), r#"{"a":[true],"b":1}"#);
        assert_eq!(Document::default().text(), "{}");
        for text in ["", "{", "{}{}", "x"] {
            assert_eq!(
                text.parse::<Document>().map(drop).map_err(|refusal| refusal.term),
                Err("invalid_json")
            );
        }
    }
}
