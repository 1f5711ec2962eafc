//! From the words of a command line to a filter.

use std::str::FromStr;

use threadline::query::{Filter, FilterError, Key, Kind, Table, filter, row::RowKey};

/// The filter that words make. A word is a text of filters, or one filter whose value has spaces, which the shell has kept together.
pub(in crate::cli) fn filter(words: &[String]) -> Result<Filter, FilterError> {
    words.iter().map(|word| term(word)).collect::<Vec<_>>().join(" ").parse()
}

/// The same for actions and events alone.
pub(super) fn filter_of_actions(words: &[String]) -> Result<Filter, FilterError> {
    let filter = filter(words)?;
    if filter.is_of_changes() || filter.kind == Some(Kind::Change) {
        return Err(FilterError::Combination(
            "table, key, op, changed and kind:change are of changes: `threadline timeline` shows these",
        ));
    }
    Ok(Filter { kind: filter.kind.or(Some(Kind::Recorded)), ..filter })
}

/// A table, as an argument of its own.
pub(in crate::cli) fn table(text: &str) -> Result<Table, String> {
    value(text)
}

/// The key of a row, as an argument of its own.
pub(in crate::cli) fn key(text: &str) -> Result<Key, String> {
    value(text)
}

/// All columns of a key.
pub(super) fn row_key(text: &str) -> Result<RowKey, String> {
    match key(text)? {
        Key::Columns(columns) => Ok(columns),
        Key::Value(_) => {
            Err(format!("filter_value: {text:?} names no column: give the key that an answer has named"))
        }
    }
}

fn value<T: FromStr<Err = FilterError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: FilterError| format!("{}: {error}", error.term()))
}

/// A word as a text of filters.
fn term(word: &str) -> String {
    match word.split_once(':') {
        Some((key, value)) if is_key(key) && !value.starts_with('"') && !holds_filters(value) => {
            format!("{key}:\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#))
        }
        _ => word.to_owned(),
    }
}

fn is_key(name: &str) -> bool {
    filter::keys().any(|key| key.key == name)
}

/// Whether something behind the first space of a value begins another filter.
fn holds_filters(value: &str) -> bool {
    let further = value.split_whitespace().skip(usize::from(!value.starts_with(char::is_whitespace)));
    further.filter_map(|word| word.split_once(':')).any(|(name, _)| is_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Filter, FilterError> {
        filter(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_word_is_a_filter_or_a_text_of_filters() {
        let Ok(filter) = r#"table:posts op:update text:"two words""#.parse::<Filter>() else { panic!() };
        for words in [
            &["table:posts", "op:update", "text:two words"][..],
            &["table:posts op:update", "text:two words"],
            &[r#"table:posts op:update text:"two words""#],
            &[r#"text:"two words""#, "op:update table:posts"],
            &["  table:posts  op:update ", "", "text:two words"],
        ] {
            assert_eq!(read(words).as_ref(), Ok(&filter), "{words:?}");
        }
    }

    #[test]
    fn values_are_those_that_the_shell_hands_over() {
        for (word, text) in [
            (r"text:a\b", r"a\b"),
            (r#"text:say "hi""#, r#"say "hi""#),
            ("text:12:30", "12:30"),
            ("text:at 12:30", "at 12:30"),
            ("text: spaced ", " spaced "),
        ] {
            let found = read(&[word]).ok().and_then(|filter| filter.text);
            assert_eq!(found.as_deref(), Some(text), "{word}");
        }
        let Ok(empty) = read(&["changed:note", "before:"]) else { panic!() };
        assert_eq!(empty.changed.and_then(|changed| changed.before).as_deref(), Some(""));
        let Ok(key) = read(&["table:lines", r#"key:{"tenant_id":"a b","line_no":"7"}"#]) else { panic!() };
        assert_eq!(
            key.key.map(|key| key.to_string()).as_deref(),
            Some(r#"{"line_no":"7","tenant_id":"a b"}"#)
        );
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_term() {
        for (words, term) in [
            (&["colour:red"][..], "unknown_filter"),
            (&["posts"], "filter_without_value"),
            (&["table:"], "filter_without_value"),
            (&["op:update", "op:insert"], "filter_twice"),
            (&["op:upsert"], "filter_value"),
            (&["table:posts op:upsert"], "filter_value"),
            (&["key:7"], "filter_combination"),
        ] {
            assert_eq!(read(words).map_err(|error| error.term()), Err(term), "{words:?}");
        }
    }

    #[test]
    fn actions_are_of_no_table() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            filter_of_actions(&words).map(|filter| filter.kind).map_err(|error| error.term())
        };
        assert_eq!(of(&[]), Ok(Some(Kind::Recorded)));
        assert_eq!(of(&["kind:event"]), Ok(Some(Kind::Event)));
        for word in ["table:posts", "kind:change", "op:delete"] {
            assert_eq!(of(&[word]), Err("filter_combination"));
        }
    }
}
