//! Keys and images as they are stored: the top level is read, values keep their text.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::entry::{Change, Json};

/// The texts of the columns of a key by their names.
pub type RowKey = BTreeMap<String, String>;

/// The columns of an image; none of what is no object.
pub(super) type Fields = BTreeMap<String, Json>;

/// The columns of an image.
pub(super) fn fields(image: &RawValue) -> Fields {
    serde_json::from_str(image.get()).unwrap_or_default()
}

/// A key as it is stored; `None` of one that capture could not tell, which is no row's.
pub(in crate::query) fn key(json: &RawValue) -> Option<RowKey> {
    serde_json::from_str(json.get()).ok().filter(|key: &RowKey| !key.is_empty())
}

/// A key as a JSON object.
pub(super) fn key_json(key: &RowKey) -> String {
    let columns = key.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
    serde_json::Value::Object(columns.collect()).to_string()
}

/// The same, as a document.
pub(in crate::query) fn key_document(key: &RowKey) -> Json {
    RawValue::from_string(key_json(key)).unwrap_or_default()
}

/// The key that a row had before an update: ours says it, the Elixir library's may say the values that it had.
pub(in crate::query) fn key_before(change: &Change) -> Option<RowKey> {
    match &change.key_before {
        Some(key_before) => key(key_before),
        None => key_of_values(
            key(&change.table_pk)?,
            change.changed_fields.as_deref()?,
            change.changed_from.as_deref(),
        ),
    }
}

/// The key with the values before of those of its columns that were changed; `None` where none was, or where a value is not known.
pub(super) fn key_of_values(
    key: RowKey,
    changed_fields: &[String],
    changed_from: Option<&RawValue>,
) -> Option<RowKey> {
    if !key.keys().any(|column| changed_fields.contains(column)) {
        return None;
    }
    let before = fields(changed_from?);
    key.into_iter()
        .map(|(column, text)| {
            if !changed_fields.contains(&column) {
                return Some((column, text));
            }
            let text = text_of(before.get(&column)?)?;
            Some((column, text))
        })
        .collect()
}

/// A value as `->>` gives it; `None` of a null.
pub(in crate::query) fn text_of(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

/// Whether two values are one, as PostgreSQL compares documents without structure: numbers by what they are worth.
pub(in crate::query) fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let worth = |text: &str| {
        if text.contains('.') && text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    one.get() == other.get() || worth(one.get()) == worth(other.get())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn raw(text: &str) -> Json {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn an_image_keeps_every_digit_and_any_depth() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let image =
            raw(&format!(r#"{{"a": 19.90, "b": 123456789012345678901234567890, "c": 1e400, "d": {deep}}}"#));
        let fields = fields(&image);
        assert_eq!(fields["a"].get(), "19.90");
        assert_eq!(fields["b"].get(), "123456789012345678901234567890");
        assert_eq!(fields["c"].get(), "1e400");
        assert_eq!(fields["d"].get(), deep);
    }

    #[test]
    fn what_is_no_object_has_no_columns_and_is_no_key() {
        for text in ["null", "1", "[]", r#""x""#, "{}"] {
            assert!(fields(&raw(text)).is_empty(), "{text}");
            assert_eq!(key(&raw(text)), None, "{text}");
        }
        assert_eq!(key(&raw(r#"{"id": null}"#)), None);
    }

    #[test]
    fn the_key_before_is_known_where_every_changed_column_of_it_is() {
        let key = || RowKey::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let changed = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let before = raw(r#"{"b": 7, "c": 1}"#);
        let expected = RowKey::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "7".to_owned())]);
        assert_eq!(key_of_values(key(), &changed(&["b", "c"]), Some(&before)), Some(expected));
        assert_eq!(key_of_values(key(), &changed(&["c"]), Some(&before)), None, "the key is the same");
        assert_eq!(key_of_values(key(), &changed(&["a", "b"]), Some(&before)), None, "a is not known");
        assert_eq!(key_of_values(key(), &changed(&["b"]), None), None);
        assert_eq!(key_of_values(key(), &changed(&["b"]), Some(&raw(r#"{"b": null}"#))), None);
    }

    #[test]
    fn values_are_compared_as_numbers_where_they_are_numbers() {
        for (one, other) in
            [("1", "1"), ("1.0", "1"), ("1.50", "1.5"), ("-0.10", "-0.1"), (r#""1.0""#, r#""1.0""#)]
        {
            assert!(is_same(&raw(one), &raw(other)), "{one} {other}");
        }
        for (one, other) in [("1", "10"), ("1.0", "10"), (r#""1.0""#, r#""1""#), ("1", r#""1""#)] {
            assert!(!is_same(&raw(one), &raw(other)), "{one} {other}");
        }
    }
}
