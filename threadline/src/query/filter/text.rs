//! A filter as a line of text, for command lines and search fields: `table:posts op:update text:"two words"`.
//!
//! Words are separated by white space; each is `KEY:VALUE`, in any order. A value that is empty or holds white space or a double quote is
//! written in double quotes, in which `\"` stands for a quote and `\\` for a backslash. Every other character stands for itself, line
//! breaks too. What is read may leave the quotes out where no quote begins the value and no white space is in it:
//! `key:{"tenant_id":"1","line_no":"7"}` can be typed as it is.

use std::{fmt, str::FromStr};

use super::{
    Filter, FilterError,
    terms::{self, Given},
};

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut given = Given::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, value, behind) = split_term(rest)?;
            given.add(key, value)?;
            rest = behind.trim_start();
        }
        given.filter()
    }
}

/// The first term of a text that begins with one, and what is behind it.
fn split_term(text: &str) -> Result<(&'static str, String, &str), FilterError> {
    let (word, behind) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    let Some((name, value)) = word.split_once(':') else { return Err(FilterError::no_value(word)) };
    let key = terms::key(name)?;
    if value.starts_with('"') {
        let quoted = &text[name.len() + ":".len()..];
        let (value, behind) = split_quoted(quoted).ok_or_else(|| FilterError::value(key, quoted, QUOTED))?;
        return Ok((key, value, behind));
    }
    if value.is_empty() {
        return Err(FilterError::no_value(word));
    }
    Ok((key, value.to_owned(), behind))
}

const QUOTED: &str =
    r#"a text in double quotes, in it \" for a quote and \\ for a backslash, and white space behind it"#;

/// The value in quotes that a text begins with, and what is behind it.
fn split_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => value.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => value.push(c),
        }
    }
    let behind = chars.as_str();
    (behind.is_empty() || behind.starts_with(char::is_whitespace)).then_some((value, behind))
}

/// In the order of the list of keys, with quotes only where they are needed.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in terms::written(self).enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"') {
                write!(f, "{key}:\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#))?;
            } else {
                write!(f, "{key}:{value}")?;
            }
        }
        Ok(())
    }
}
