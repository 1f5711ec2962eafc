//! What comes from a database, made harmless: it moves no cursor, hides nothing and begins no line, whatever a name or a value holds.

use std::fmt::Write as _;

use threadline::visible::acts;
pub(in crate::cli) use threadline::visible::text;

/// A value of a line of tabs, as PostgreSQL's `copy` reads it: what it has no sign for are the bytes of the character, `\x1b`.
pub(super) fn copied(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => safe.push_str(r"\\"),
            '\t' => safe.push_str(r"\t"),
            '\n' => safe.push_str(r"\n"),
            '\r' => safe.push_str(r"\r"),
            c if acts(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(safe, "\\x{byte:02x}");
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

/// A JSON document on one line: in its texts such a character is `\uXXXX`, and between them there is no line break.
pub(in crate::cli) fn json(document: &str) -> String {
    let mut safe = String::with_capacity(document.len());
    let (mut is_text, mut is_escaped) = (false, false);
    for c in document.chars() {
        if is_text && acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else if acts(c) {
            safe.push(' ');
        } else {
            safe.push(c);
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_text,
            '"' => is_text = !is_text,
            _ => {}
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escape, the C1 form of it, a bidi override, line breaks, and what is beyond the basic plane.
    const HOSTILE: &str = "a\u{1b}[2J\u{9b}2J\u{202e}b\u{2028}\u{7f}\0\t\r\n\u{e0041}\u{200b}";

    #[test]
    fn people_see_what_would_act() {
        let seen = r"a\u{1b}[2J\u{9b}2J\u{202e}b\u{2028}\u{7f}\u{0}\u{9}\u{d}\u{a}\u{e0041}\u{200b}";
        assert_eq!(text(HOSTILE), seen);
    }

    #[test]
    fn what_can_be_seen_stays_as_it_is() {
        for plain in ["", "Grüße", "日本語", "🦀", "عربى", "a\\b \"c\"", "é\u{301}"] {
            assert_eq!(text(plain), plain);
            assert_eq!(json(&format!("{plain:?}")), format!("{plain:?}"));
        }
    }

    #[test]
    fn a_line_of_tabs_has_the_bytes() {
        let bytes = r"a\x1b[2J\xc2\x9b2J\xe2\x80\xaeb\xe2\x80\xa8\x7f\x00\t\r\n\xf3\xa0\x81\x81\xe2\x80\x8b";
        assert_eq!(copied(HOSTILE), bytes);
        assert_eq!(copied(r"\N"), r"\\N");
    }

    #[test]
    fn json_is_on_one_line_and_says_the_same() {
        let document = serde_json::json!({"a\u{202e}": HOSTILE, "b": "\"\\", "c": [1, "x"]});
        let pretty = serde_json::to_string_pretty(&document).unwrap_or_default();
        let safe = json(&pretty);
        assert!(!safe.chars().any(acts), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).ok(), Some(document));
    }
}
