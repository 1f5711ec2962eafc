//! The name of an action, or how it begins.

use std::{fmt, str::FromStr};

use super::FilterError;

/// The name of an action, such as `user.suspended`, or how it begins: `user.*`.
///
/// A name that ends with a star itself is written with a backslash before it, `odd\*`; backslashes before a last star are doubled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// This one.
    Exact(String),
    /// All that begin with this.
    Prefix(String),
}

/// The text without the backslashes at its end, and how many these are.
fn without_backslashes(text: &str) -> (&str, usize) {
    let rest = text.trim_end_matches('\\');
    (rest, text.len() - rest.len())
}

impl FromStr for Name {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::value("action", text, "a name, or how it begins and *"));
        }
        let Some(body) = text.strip_suffix('*') else { return Ok(Self::Exact(text.to_owned())) };
        let (rest, backslashes) = without_backslashes(body);
        let body = format!("{rest}{}", "\\".repeat(backslashes / 2));
        // Two are one backslash of the name; one that is left over belongs to the star.
        Ok(if backslashes % 2 == 0 { Self::Prefix(body) } else { Self::Exact(format!("{body}*")) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (body, escape) = match self {
            Self::Prefix(prefix) => (prefix.as_str(), ""),
            Self::Exact(name) => match name.strip_suffix('*') {
                Some(body) => (body, "\\"),
                None => return f.write_str(name),
            },
        };
        let (_, backslashes) = without_backslashes(body);
        write!(f, "{body}{}{escape}*", "\\".repeat(backslashes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_at_the_end_makes_a_name_a_beginning_unless_a_backslash_stands_before_it() {
        let (exact, prefix) = (|text: &str| Name::Exact(text.into()), |text: &str| Name::Prefix(text.into()));
        for (text, name) in [
            ("user.suspended", exact("user.suspended")),
            ("user.*", prefix("user.")),
            ("*", prefix("")),
            ("a*b", exact("a*b")),
            ("**", prefix("*")),
            (r"odd\*", exact("odd*")),
            (r"\*", exact("*")),
            (r"odd\\*", prefix(r"odd\")),
            (r"odd\\\*", exact(r"odd\*")),
            (r"odd\", exact(r"odd\")),
        ] {
            assert_eq!(text.parse(), Ok(name.clone()), "{text}");
            assert_eq!(name.to_string(), text);
        }
        assert_eq!("".parse::<Name>().expect_err("is empty").term(), "filter_value");
    }

    proptest! {
        #[test]
        fn every_name_and_beginning_survives_being_written(text in "[a*\\\\]{0,6}") {
            let mut names = vec![Name::Prefix(text.clone())];
            if !text.is_empty() {
                names.push(Name::Exact(text));
            }
            for name in names {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}
