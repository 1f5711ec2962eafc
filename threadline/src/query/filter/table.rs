//! A table of the host's.

use std::{fmt, str::FromStr};

use super::FilterError;

/// A table of the host's: `posts` in any schema, or `billing.posts`.
///
/// A name that holds a dot or a double quote is written in double quotes, and a double quote in it twice, as in SQL: `"odd.name"`. Other
/// names are written as they are, whatever they hold; unlike in SQL, upper case stays upper case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Its schema; `None` for any.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
}

const EXPECTED: &str =
    r#"TABLE or SCHEMA.TABLE, a name with a dot or a double quote in double quotes: "odd.name""#;

impl Table {
    /// No table and no schema has an empty name.
    pub(super) fn check(&self) -> Result<(), FilterError> {
        if self.name.is_empty() || self.schema.as_ref().is_some_and(String::is_empty) {
            return Err(FilterError::value("table", &self.to_string(), EXPECTED));
        }
        Ok(())
    }
}

/// The name that a text begins with, and what is behind it. `None` where a quote is not closed, or stands in the middle of a name.
fn split_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        return (!name.contains('"')).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(further) => {
                name.push('"');
                rest = further;
            }
            None => return Some((name, behind)),
        }
    }
}

impl FromStr for Table {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refused = || FilterError::value("table", text, EXPECTED);
        let (first, rest) = split_name(text).ok_or_else(refused)?;
        let table = if rest.is_empty() {
            Self { schema: None, name: first }
        } else {
            let (name, rest) = rest.strip_prefix('.').and_then(split_name).ok_or_else(refused)?;
            if !rest.is_empty() {
                return Err(refused());
            }
            Self { schema: Some(first), name }
        };
        table.check().map_err(|_| refused())?;
        Ok(table)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write_name(f, schema)?;
            f.write_str(".")?;
        }
        write_name(f, &self.name)
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if name.is_empty() || name.contains(['.', '"']) {
        write!(f, "\"{}\"", name.replace('"', "\"\""))
    } else {
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(schema: Option<&str>, name: &str) -> Table {
        Table { schema: schema.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn a_name_is_in_quotes_only_where_it_holds_a_dot_or_a_quote() {
        for (text, expected) in [
            ("posts", table(None, "posts")),
            ("billing.posts", table(Some("billing"), "posts")),
            ("Order Lines", table(None, "Order Lines")),
            (r#""a.b""#, table(None, "a.b")),
            (r#""a.b".c"#, table(Some("a.b"), "c")),
            (r#"a."b.c""#, table(Some("a"), "b.c")),
            (r#""say ""x""".posts"#, table(Some(r#"say "x""#), "posts")),
            (r#""""""#, table(None, r#"""#)),
        ] {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        assert_eq!(r#""posts""#.parse(), Ok(table(None, "posts")), "quotes that are not needed are read too");
    }

    #[test]
    fn what_is_not_one_or_two_names_is_no_table() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            r#"""""#,
            r#"a."""#,
            r#""a"#,
            r#""a"b"#,
            r#"a"b"#,
            r#"a.b"c"#,
            r#""a"."b"."c""#,
        ] {
            let error = text.parse::<Table>().expect_err(text);
            assert_eq!(error, FilterError::value("table", text, EXPECTED));
        }
    }

    #[test]
    fn a_table_with_an_empty_name_is_refused_where_it_is_typed() {
        for table in [table(None, ""), table(Some(""), "a"), table(Some("a"), "")] {
            assert_eq!(table.check().expect_err("has an empty name").term(), "filter_value");
            assert!(table.to_string().parse::<Table>().is_err(), "{table}");
        }
    }

    proptest! {
        #[test]
        fn every_table_survives_being_written(schema in proptest::option::of("[a.\" ]{1,4}|.{1,4}"), name in "[a.\" ]{1,4}|.{1,4}") {
            let table = Table { schema, name };
            prop_assert_eq!(table.to_string().parse(), Ok(table));
        }
    }
}
