//! JSON documents as texts. No number and no string of them passes through a type of ours, so that every digit and every escape stays.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Json;

/// Levels that are put in order. A document may be deeper than a thread's stack.
const DEPTH_MAX: usize = 128;

/// The members of an object by their names; none of anything else.
#[must_use]
pub fn members(document: &RawValue) -> BTreeMap<String, Json> {
    serde_json::from_str(document.get()).unwrap_or_default()
}

/// The document without spaces and with the members of every object in the order of the bytes of their names. What is deeper than 128
/// levels stays as it was given.
#[must_use]
pub fn sorted(document: &RawValue) -> Json {
    let mut scan = Scan { text: document.get(), at: 0 };
    let mut sorted = String::with_capacity(scan.text.len());
    scan.value(DEPTH_MAX, &mut sorted);
    RawValue::from_string(sorted).unwrap_or_else(|_| document.to_owned())
}

/// A place in a text that is JSON.
struct Scan<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scan<'t> {
    /// The next character that is no space.
    fn next(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Appends the value that begins here.
    fn value(&mut self, levels: usize, sorted: &mut String) {
        match self.next() {
            b'{' if levels > 0 => self.object(levels - 1, sorted),
            b'[' if levels > 0 => self.array(levels - 1, sorted),
            b'{' | b'[' => sorted.push_str(self.container()),
            b'"' => sorted.push_str(self.string()),
            _ => sorted.push_str(self.scalar()),
        }
    }

    fn object(&mut self, levels: usize, sorted: &mut String) {
        let mut members = Vec::new();
        self.at += 1;
        while self.next() == b'"' {
            let name = self.string();
            self.next();
            self.at += 1;
            let mut value = String::new();
            self.value(levels, &mut value);
            let plain: String = serde_json::from_str(name).unwrap_or_else(|_| name.to_owned());
            members.push((plain, name, value));
            if self.next() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        members.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        sorted.push('{');
        for (n, (_, name, value)) in members.iter().enumerate() {
            if n > 0 {
                sorted.push(',');
            }
            sorted.push_str(name);
            sorted.push(':');
            sorted.push_str(value);
        }
        sorted.push('}');
    }

    fn array(&mut self, levels: usize, sorted: &mut String) {
        self.at += 1;
        sorted.push('[');
        while !matches!(self.next(), b']' | 0) {
            self.value(levels, sorted);
            if self.next() == b',' {
                self.at += 1;
                sorted.push(',');
            }
        }
        self.at += 1;
        sorted.push(']');
    }

    /// An object or an array as it is.
    fn container(&mut self) -> &'t str {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.text.as_bytes().get(self.at) {
                None => return &self.text[start..],
                Some(b'"') => {
                    self.string();
                    continue;
                }
                Some(b'{' | b'[') => open += 1,
                Some(b'}' | b']') => open -= 1,
                Some(_) => {}
            }
            self.at += 1;
            if open == 0 {
                return &self.text[start..self.at];
            }
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> &'t str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += match byte {
                b'"' => break,
                b'\\' => 2,
                _ => 1,
            };
        }
        self.at += 1;
        &self.text[start..self.at]
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> &'t str {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let length = rest.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(rest.len());
        self.at += length;
        &self.text[start..self.at]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Json {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn names_are_in_the_order_of_their_bytes_at_every_level_and_values_keep_their_text() {
        for (given, expected) in [
            (
                r#"{"b": 19.90, "a": {"z": [ {"d":1, "c":2} ], "Ä": null, "B": true}}"#,
                r#"{"a":{"B":true,"z":[{"c":2,"d":1}],"Ä":null},"b":19.90}"#,
            ),
            (
                r#"{"n": 123456789012345678901234567890.10, "e": 1E+400}"#,
                r#"{"e":1E+400,"n":123456789012345678901234567890.10}"#,
            ),
            (r#"{"\u00e9": "\u00e9\"}{", "e": "\\"}"#, r#"{"e":"\\","\u00e9":"\u00e9\"}{"}"#),
            (" [ ] ", "[]"),
            ("{ }", "{}"),
            ("\"a b\"", "\"a b\""),
            (" -0.0 ", "-0.0"),
            (r#"{"a": [1, [], {}, "x"], "": 0}"#, r#"{"":0,"a":[1,[],{},"x"]}"#),
        ] {
            assert_eq!(sorted(&raw(given.trim())).get(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_deeper_than_128_levels_stays_as_it_was_and_needs_no_stack() {
        let inner = r#"{"b": "]", "a": 1}"#;
        let nested = |levels: usize| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(sorted(&raw(&nested(127))).get().contains(r#"{"a":1,"b":"]"}"#));
        for levels in [128, 129, 500_000] {
            assert_eq!(sorted(&raw(&nested(levels))).get(), nested(levels));
            let object = raw(&format!("{{\"x\": {}}}", nested(levels)));
            assert_eq!(members(&object)["x"].get(), nested(levels));
        }
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["null", "1", "[1]", "\"a\"", "{}"] {
            assert!(members(&raw(text)).is_empty(), "{text}");
        }
        assert_eq!(members(&raw(r#"{"a b": 1.0, "\u0061": 19.90}"#))["a"].get(), "19.90");
    }

    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        scalar.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// Maps of this build are in the order of their names.
        #[test]
        fn a_document_becomes_what_a_map_in_order_prints(document in documents()) {
            let pretty = serde_json::to_string_pretty(&document).unwrap();
            let sorted = sorted(&raw(&pretty));
            prop_assert_eq!(sorted.get(), document.to_string());
        }
    }
}
