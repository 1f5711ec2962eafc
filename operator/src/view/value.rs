//! A value of a column, as it is stored: what is missing says why, in a word and a shape.

use maud::{Markup, html};
use serde::Deserialize;
use threadline::{capture::Policy, query::Json};

use super::text;

/// Characters of a value in a list.
pub(crate) const SHORT: usize = 80;

/// Characters of a value by itself.
pub(crate) const LONG: usize = 4_000;

/// What masked columns hold, unless their policy says otherwise.
const MASKED: &str = "[REDACTED]";

/// What was put in the place of a value that was erased.
const ERASED: &str = "[ERASED]";

/// What stands for a value that capture could not store.
const TOO_LARGE: &str = "threadline.too_large";

/// Hexadecimal digits of a hash that are shown.
const DIGITS: usize = 16;

/// What stands in the place of a value, or looks as if it did.
#[derive(Debug, PartialEq, Eq)]
enum Redacted {
    Masked,
    Erased,
    /// By this key, with this hash.
    Hashed(String, String),
    /// So many bytes, with this hash.
    TooLarge(u64, String),
    /// A text that a program may have written like this.
    Perhaps(&'static str, String),
}

/// What is known of a column besides its value. Whoever may write to a table may write what stands for a hidden value, too: only what is known
/// here makes it one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known<'k> {
    /// The policy that its table is captured under.
    pub(crate) policy: Option<&'k Policy>,
    /// Whether the change says that the value was erased.
    pub(crate) is_erased: bool,
}

impl<'k> Known<'k> {
    /// Of a column of a change that says which of its columns were erased.
    pub(crate) fn of(policy: Option<&'k Policy>, erased: Option<&[String]>, column: &str) -> Self {
        Self { policy, is_erased: erased.is_some_and(|erased| erased.iter().any(|one| one == column)) }
    }
}

/// A document of the database; none where it is not known.
pub(crate) fn value(value: Option<&Json>, is_sql_null: bool, characters: usize) -> Markup {
    of_column("", value, is_sql_null, characters, Known::default())
}

/// The value of a column.
pub(crate) fn of_column(
    column: &str,
    value: Option<&Json>,
    is_sql_null: bool,
    characters: usize,
    known: Known<'_>,
) -> Markup {
    let Some(value) = value else { return html! { span.none { "not recorded" } } };
    let document = value.get();
    if document == "null" {
        return html! { span.null { @if is_sql_null { "null (of SQL)" } @else { "null" } } };
    }
    if let Some(redacted) = redacted(column, document, known) {
        return html! { @match redacted {
            Redacted::Masked => { span.masked { "masked" } },
            Redacted::Erased => { span.erased { "erased" } },
            Redacted::Hashed(key, hash) => {
                span.hashed { "hashed" } " " span.literal title={ "HMAC-SHA-256 with the key " (threadline::visible::text(&key)) } { (first(&hash)) }
            },
            Redacted::TooLarge(bytes, hash) => {
                span.large { "too large" } " " span.literal title="SHA-256 of the value" { (bytes) " bytes, " (first(&hash)) }
            },
            Redacted::Perhaps(word, text) => {
                span.string { (text::cut(&text, characters)) } " " span.none { "perhaps " (word) }
            },
        } };
    }
    // A text is shown without its quotes; everything else as PostgreSQL prints it.
    match document.starts_with('"').then(|| serde_json::from_str::<String>(document)) {
        Some(Ok(string)) if string.is_empty() => html! { span.null { "empty text" } },
        Some(Ok(string)) => html! { span.string { (text::cut(&string, characters)) } },
        _ => html! { span.literal { (text::cut(document, characters)) } },
    }
}

/// The first digits of a hash: enough to see that two are the same.
fn first(hash: &str) -> Markup {
    html! { bdi { (threadline::visible::text(&hash.chars().take(DIGITS).collect::<String>())) "…" } }
}

/// Whether a value stands for another one, or looks as if it did.
pub(crate) fn is_redacted(column: &str, value: &Json, known: Known<'_>) -> bool {
    redacted(column, value.get(), known).is_some()
}

/// Whether a value says nothing of the one that it stands for: two that are equal may stand for different ones.
pub(crate) fn is_hidden(column: &str, value: &Json, known: Known<'_>) -> bool {
    let is_masked_within = || {
        known.policy.is_some_and(|policy| {
            policy.paths.iter().any(|path| path.first().is_some_and(|first| first == column))
        })
    };
    match redacted(column, value.get(), known) {
        Some(Redacted::Masked | Redacted::Erased) => true,
        Some(Redacted::Perhaps(word, _)) => word == "masked",
        Some(_) => false,
        None => is_masked_within(),
    }
}

fn redacted(column: &str, document: &str, known: Known<'_>) -> Option<Redacted> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Large {
        bytes: u64,
        sha256: String,
    }
    let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let large =
        |large: Large| is_hash(&large.sha256).then_some(Redacted::TooLarge(large.bytes, large.sha256));
    if document.starts_with('{') {
        // An image that could not be stored has this column alone.
        if column == TOO_LARGE {
            return serde_json::from_str(document).ok().and_then(large);
        }
        if !document.contains(TOO_LARGE) {
            return None;
        }
        let mut members: std::collections::BTreeMap<String, Large> = serde_json::from_str(document).ok()?;
        return if members.len() == 1 { members.remove(TOO_LARGE).and_then(large) } else { None };
    }
    let text: String = document.starts_with('"').then(|| serde_json::from_str(document).ok()).flatten()?;
    if known.is_erased && text == ERASED {
        return Some(Redacted::Erased);
    }
    let has = |columns: &[String]| columns.iter().any(|one| one == column);
    let hash =
        text.strip_prefix("hmac:").and_then(|rest| rest.rsplit_once(':')).filter(|(_, hash)| is_hash(hash));
    match known.policy {
        // Hashed columns without their key hold the placeholder, too.
        Some(policy) if (has(&policy.mask) || has(&policy.hash)) && text == policy.mask_placeholder => {
            return Some(Redacted::Masked);
        }
        Some(policy) => {
            if let Some((key, hash)) = hash.filter(|_| has(&policy.hash)) {
                return Some(Redacted::Hashed(key.to_owned(), hash.to_owned()));
            }
        }
        None if text == MASKED => return Some(Redacted::Perhaps("masked", text)),
        None if hash.is_some() => return Some(Redacted::Perhaps("hashed", text)),
        None => {}
    }
    // Of which type a column was is not recorded.
    let is_binary = text.strip_prefix("\\x").is_some_and(|digits| {
        !digits.is_empty() && digits.len() % 2 == 0 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    is_binary.then_some(Redacted::Perhaps("binary", text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn shown(column: &str, document: &str, known: Known<'_>) -> String {
        let value: Json = serde_json::from_str(document).unwrap();
        of_column(column, Some(&value), false, SHORT, known).into_string()
    }

    fn policy() -> Policy {
        let mut policy = Policy::default();
        policy.mask = vec!["email".to_owned()];
        policy.hash = vec!["ssn".to_owned()];
        policy
    }

    #[test]
    fn what_is_hidden_says_in_its_own_word_why() {
        let hash = "ab".repeat(32);
        let large = format!(r#"{{"threadline.too_large": {{"bytes": 200000, "sha256": "{hash}"}}}}"#);
        let of_image = format!(r#"{{"bytes": 200000, "sha256": "{hash}"}}"#);
        let policy = policy();
        for (column, document, class, word) in [
            ("email", r#""[REDACTED]""#.to_owned(), "masked", "masked"),
            ("ssn", r#""[REDACTED]""#.to_owned(), "masked", "masked"),
            ("name", r#""[ERASED]""#.to_owned(), "erased", "erased"),
            ("ssn", format!(r#""hmac:default:{hash}""#), "hashed", "with the key default"),
            ("body", large, "large", "200000 bytes"),
            ("threadline.too_large", of_image, "large", "200000 bytes"),
        ] {
            let html =
                shown(column, &document, Known { policy: Some(&policy), is_erased: class == "erased" });
            assert!(
                html.contains(&format!("class=\"{class}\"")) && html.contains(word),
                "{document}: {html}"
            );
        }
        for document in [
            r#""hmac:default:ab""#,
            r#""\\x""#,
            r#""\\x6""#,
            r#""\\xyz""#,
            r#"{"threadline.too_large": 7}"#,
            r#"{"threadline.too_large": {"bytes": 7, "sha256": "what somebody wrote"}}"#,
            r#"{"a": "threadline.too_large"}"#,
            "7",
        ] {
            let html = shown("x", document, Known::default());
            assert!(html.contains("string") || html.contains("literal"), "{html}");
            assert!(!html.contains("perhaps") && !html.contains("too large<"), "{html}");
        }
    }

    #[test]
    fn a_text_that_only_looks_hidden_is_shown_itself() {
        let hash = format!("hmac:x:{}", "ab".repeat(32));
        let policy = policy();
        for (text, word) in [
            ("[ERASED]", None),
            ("[REDACTED]", Some("masked")),
            (hash.as_str(), Some("hashed")),
            (r"\xff00", Some("binary")),
        ] {
            let document = serde_json::to_string(text).unwrap();
            for (policy, word) in [(None, word), (Some(&policy), word.filter(|word| *word == "binary"))] {
                let html = shown("note", &document, Known { policy, is_erased: false });
                assert!(html.contains(&format!("<span class=\"string\"><bdi>{text}")), "{html}");
                assert_eq!(html.contains("perhaps"), word.is_some(), "{html}");
                assert!(word.is_none_or(|word| html.contains(&format!("perhaps {word}"))), "{html}");
            }
        }
    }

    #[test]
    fn the_placeholder_of_a_policy_is_one_as_well() {
        let mut policy = policy();
        policy.mask_placeholder = "***".to_owned();
        let known = Known { policy: Some(&policy), is_erased: false };
        assert!(shown("email", r#""***""#, known).contains("masked"));
        assert!(shown("email", r#""***""#, Known::default()).contains("string"));
        // A column that is masked by another placeholder may hold this text.
        assert!(shown("email", r#""[REDACTED]""#, known).contains("string"));
    }

    #[test]
    fn nulls_and_empty_texts_are_told_apart() {
        let value: Json = serde_json::from_str("null").unwrap();
        let shown_of =
            |value: Option<&Json>, is_sql_null| super::value(value, is_sql_null, SHORT).into_string();
        assert!(shown_of(Some(&value), true).contains(">null (of SQL)<"));
        assert!(shown_of(Some(&value), false).contains(">null<"));
        assert!(shown_of(None, false).contains("not recorded"));
        assert!(shown("x", r#""""#, Known::default()).contains("empty text"));
    }
}
