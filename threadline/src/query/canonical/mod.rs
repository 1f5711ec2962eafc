//! JSON documents as texts. No number and no string of them passes through a type of ours, so that every digit and every escape stays.

mod float;

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

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
    let mut sorted = String::with_capacity(document.get().len());
    Canonical::new(Form::Stored).write(document.get(), &mut sorted);
    RawValue::from_string(sorted).unwrap_or_else(|_| document.to_owned())
}

/// How numbers and strings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As PostgreSQL prints them.
    Stored,
    /// Escapes as the Elixir library writes them, in upper case; numbers with every digit.
    Exact,
    /// As the Elixir library writes them: numbers with a fraction are those of 64-bit floats.
    Compat,
}

/// Writes documents without spaces and with the members of every object in the order of their names, one after another; what it needs
/// meanwhile it keeps.
#[derive(Debug)]
pub(crate) struct Canonical {
    form: Form,
    /// Of all objects that are open, the inner ones last.
    members: Vec<Member>,
    /// The members of one object, while they are put in order.
    moved: String,
}

/// A member of an object: where its name stands in the document, and where it stands as it was written.
#[derive(Debug, Clone)]
struct Member {
    name: Range<usize>,
    written: Range<usize>,
}

impl Canonical {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, members: Vec::new(), moved: String::new() }
    }

    /// Appends a document.
    pub(crate) fn write(&mut self, document: &str, out: &mut String) {
        let mut scan = Scan { text: document, at: 0 };
        self.value(&mut scan, DEPTH_MAX, out);
        self.members.clear();
    }

    /// Appends the value that begins here.
    fn value(&mut self, scan: &mut Scan<'_>, levels: usize, out: &mut String) {
        match scan.next() {
            b'{' if levels > 0 => self.object(scan, levels - 1, out),
            b'[' if levels > 0 => self.array(scan, levels - 1, out),
            b'{' | b'[' => out.push_str(scan.container()),
            b'"' => self.string(scan.string(), out),
            _ => self.scalar(scan.scalar(), out),
        }
    }

    fn object(&mut self, scan: &mut Scan<'_>, levels: usize, out: &mut String) {
        let first = self.members.len();
        scan.at += 1;
        out.push('{');
        let begin = out.len();
        while scan.next() == b'"' {
            if self.members.len() > first {
                out.push(',');
            }
            let (name, written) = (scan.at, out.len());
            let text = scan.string();
            self.string(text, out);
            out.push(':');
            scan.next();
            scan.at += 1;
            self.value(scan, levels, out);
            self.members.push(Member { name: name..name + text.len(), written: written..out.len() });
            if scan.next() == b',' {
                scan.at += 1;
            }
        }
        scan.at += 1;
        let name = |member: &Member| plain(&scan.text[member.name.clone()]);
        let members = &mut self.members[first..];
        if !members.is_sorted_by(|one, other| name(one) <= name(other)) {
            members.sort_by(|one, other| name(one).cmp(&name(other)));
            self.moved.clear();
            for (n, member) in members.iter().enumerate() {
                if n > 0 {
                    self.moved.push(',');
                }
                self.moved.push_str(&out[member.written.clone()]);
            }
            out.truncate(begin);
            out.push_str(&self.moved);
        }
        self.members.truncate(first);
        out.push('}');
    }

    fn array(&mut self, scan: &mut Scan<'_>, levels: usize, out: &mut String) {
        scan.at += 1;
        out.push('[');
        while !matches!(scan.next(), b']' | 0) {
            self.value(scan, levels, out);
            if scan.next() == b',' {
                scan.at += 1;
                out.push(',');
            }
        }
        scan.at += 1;
        out.push(']');
    }

    fn string(&self, text: &str, out: &mut String) {
        if self.form == Form::Stored || !text.contains("\\u") {
            return out.push_str(text);
        }
        // PostgreSQL escapes controls alone, in lower case.
        let mut digits = 0;
        let mut is_escaped = false;
        for c in text.chars() {
            if digits > 0 {
                digits -= 1;
                out.push(c.to_ascii_uppercase());
                continue;
            }
            out.push(c);
            if is_escaped && c == 'u' {
                digits = 4;
            }
            is_escaped = c == '\\' && !is_escaped;
        }
    }

    fn scalar(&self, text: &str, out: &mut String) {
        let is_fraction =
            |text: &str| text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.contains('.');
        match self.form {
            Form::Compat if is_fraction(text) => float::write(text, out),
            _ => out.push_str(text),
        }
    }
}

/// The name that a string stands for, to be compared.
fn plain(string: &str) -> Cow<'_, str> {
    if string.contains('\\') {
        return serde_json::from_str(string).map_or(Cow::Borrowed(string), Cow::Owned);
    }
    Cow::Borrowed(string.trim_matches('"'))
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
