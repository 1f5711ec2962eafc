//! A filter as the query of a URL: `table=posts&op=update`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    Filter, FilterError,
    terms::{self, Given},
};

/// What is escaped: everything but what RFC 3986 reserves for nothing, and `*`, `:`, `/` and `@`, which mean nothing in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*')
    .remove(b':')
    .remove(b'/')
    .remove(b'@');

/// The query of a URL, without the question mark. It fits into an attribute in HTML but for its ampersands.
#[must_use]
pub fn to_query(filter: &Filter) -> String {
    let pairs: Vec<String> = terms::written(filter)
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, ESCAPED)))
        .collect();
    pairs.join("&")
}

/// Reads the query of a URL, with or without its question mark; `+` is a space, as browsers send it.
///
/// A key that is none of a filter's is an error. A web surface takes out its own first, such as a page's cursor, and gives the others to
/// [`from_pairs`]; it also leaves out the fields of a form that were left empty.
///
/// # Errors
/// Every [`FilterError`] but the one of JSON.
pub fn from_query(query: &str) -> Result<Filter, FilterError> {
    let pairs =
        query.strip_prefix('?').unwrap_or(query).split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').ok_or_else(|| FilterError::no_value(pair))?;
            let name = decode(name).ok_or_else(|| FilterError::unknown_key(name))?;
            let key = terms::key(&name)?;
            let value =
                decode(value).ok_or_else(|| FilterError::value(key, value, "UTF-8, percent-encoded"))?;
            Ok((name, value))
        });
    from_pairs(pairs.collect::<Result<Vec<_>, FilterError>>()?)
}

/// Reads keys and values that are decoded already, in any order.
///
/// # Errors
/// Every [`FilterError`] but the one of JSON.
pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Filter, FilterError> {
    let mut given = Given::default();
    for (name, value) in pairs {
        given.add(&name, value)?;
    }
    given.filter()
}

/// `None` for what is not UTF-8. A percent sign that begins no escape stands for itself, as in browsers.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
