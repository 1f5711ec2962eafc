//! Why something is no filter.

use super::terms;

/// Why something is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A key that there is none of.
    #[error("there is no filter {0:?}; filters are {known}", known = terms::names())]
    UnknownKey(String),
    /// A key without a value, or a word without a key.
    #[error("{0:?} has no value: a filter is KEY:VALUE, such as table:posts")]
    NoValue(String),
    /// A key that is there twice.
    #[error("{0} is given twice: leave one out")]
    Twice(String),
    /// A value that the key does not take.
    #[error("{key} cannot be {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Keys that do not go together.
    #[error("{0}")]
    Combination(&'static str),
    /// No JSON object of texts.
    #[error("a filter in JSON is an object of texts: {0}")]
    Json(String),
}

impl FilterError {
    pub(crate) fn value(key: &'static str, value: &str, expected: &'static str) -> Self {
        Self::Value { key, value: quoted(value), expected }
    }

    pub(super) fn unknown_key(key: &str) -> Self {
        Self::UnknownKey(quoted(key))
    }

    pub(super) fn no_value(word: &str) -> Self {
        Self::NoValue(quoted(word))
    }

    pub(super) fn json(reason: &str) -> Self {
        Self::Json(quoted(reason))
    }

    /// The same, of another key: a type that two keys have does not know which one it is read for.
    pub(super) fn of(self, key: &'static str) -> Self {
        match self {
            Self::Value { value, expected, .. } => Self::Value { key, value, expected },
            other => other,
        }
    }

    /// Its term, which programs can rely on.
    #[must_use]
    pub fn term(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => "unknown_filter",
            Self::NoValue(_) => "filter_without_value",
            Self::Twice(_) => "filter_twice",
            Self::Value { .. } => "filter_value",
            Self::Combination(_) => "filter_combination",
            Self::Json(_) => "filter_json",
        }
    }
}

/// The longest part of what was given that an error repeats, in characters.
const QUOTED_MAX: usize = 200;

/// The beginning of what was given. Whoever gives something long does not make messages and logs long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_only_the_beginning_of_something_long() {
        let long = "ü".repeat(QUOTED_MAX);
        assert_eq!(FilterError::unknown_key(&long), FilterError::UnknownKey(long.clone()));
        assert_eq!(FilterError::no_value(&format!("{long}x")), FilterError::NoValue(format!("{long}…")));
    }
}
