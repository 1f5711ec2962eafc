//! Two values side by side, closer: documents by their paths, long texts by their words.

use std::{collections::BTreeMap, time::Duration};

use maud::{Markup, html};
use serde_json::value::RawValue;
use similar::{ChangeTag, TextDiff};
use threadline::query::Json;

use super::{text, value};

/// Bytes of a document, or of a text, that are compared; longer ones stand side by side as they are.
const BYTES_MAX: usize = 64 * 1024;

/// Characters from which on a text is compared by its words.
const LONG: usize = 60;

/// Paths that are shown.
const PATHS_MAX: usize = 100;

/// Members within members that are followed.
const DEPTH_MAX: usize = 32;

/// Time for comparing two texts; what is left then counts as replaced.
const TIME: Duration = Duration::from_millis(50);

/// Characters around what was changed.
const AROUND: usize = 80;

/// What became of one path of a document.
#[derive(Debug, PartialEq, Eq)]
struct Path {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

/// What differs between two values; none where it is best seen as both of them.
pub(crate) fn fine(before: &Json, after: &Json) -> Option<Markup> {
    let (before, after) = (before.get(), after.get());
    if before.len() > BYTES_MAX || after.len() > BYTES_MAX {
        return None;
    }
    match (before.as_bytes().first()?, after.as_bytes().first()?) {
        (b'{', b'{') | (b'[', b'[') => {
            let mut paths = Vec::new();
            compare("", before, after, 0, &mut paths);
            (!paths.is_empty()).then(|| of_paths(&paths))
        }
        (b'"', b'"') => {
            let text = |document| serde_json::from_str::<String>(document).ok();
            let (before, after) = (text(before)?, text(after)?);
            let is_long = before.chars().nth(LONG).is_some() && after.chars().nth(LONG).is_some();
            is_long.then(|| words(&before, &after))
        }
        _ => None,
    }
}

fn members(document: &str) -> Option<BTreeMap<String, Box<RawValue>>> {
    if document.starts_with('{') {
        return serde_json::from_str(document).ok();
    }
    let elements: Vec<Box<RawValue>> =
        document.starts_with('[').then(|| serde_json::from_str(document).ok()).flatten()?;
    Some(elements.into_iter().enumerate().map(|(n, element)| (format!("[{n:05}]"), element)).collect())
}

/// Collects the paths at which two documents differ. They are as PostgreSQL prints them: what is equal has one text.
fn compare(name: &str, before: &str, after: &str, depth: usize, paths: &mut Vec<Path>) {
    if before == after || paths.len() > PATHS_MAX {
        return;
    }
    let is_same_kind = before.as_bytes().first() == after.as_bytes().first();
    let both = members(before).zip(members(after)).filter(|_| is_same_kind && depth < DEPTH_MAX);
    let Some((before_members, mut after_members)) = both else {
        paths.push(Path {
            name: name.to_owned(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
        });
        return;
    };
    for (member, before) in &before_members {
        let name = joined(name, member);
        match after_members.remove(member) {
            Some(after) => compare(&name, before.get(), after.get(), depth + 1, paths),
            None => paths.push(Path { name, before: Some(before.get().to_owned()), after: None }),
        }
    }
    for (member, after) in after_members {
        paths.push(Path { name: joined(name, &member), before: None, after: Some(after.get().to_owned()) });
    }
}

/// `a.b`, `a[0]`.
fn joined(name: &str, member: &str) -> String {
    let element = member.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    match element {
        Some(n) => format!("{name}[{n}]"),
        None if name.is_empty() => member.to_owned(),
        None => format!("{name}.{member}"),
    }
}

fn of_paths(paths: &[Path]) -> Markup {
    let shown = |document: &Option<String>| {
        let document = document.clone().and_then(|document| RawValue::from_string(document).ok());
        value::value(document.as_ref(), false, value::SHORT)
    };
    html! {
        ul.paths {
            @for path in paths.iter().take(PATHS_MAX) {
                li {
                    code { (text::line(&path.name)) } ": "
                    @match (&path.before, &path.after) {
                        (Some(_), None) => { del { (shown(&path.before)) } " (removed)" },
                        (None, _) => { ins { (shown(&path.after)) } " (added)" },
                        _ => { (shown(&path.before)) " " span.arrow aria-label="became" { "→" } " " (shown(&path.after)) },
                    }
                }
            }
            @if paths.len() > PATHS_MAX { li.more { "and more, in the JSON of this page" } }
        }
    }
}

/// A text with what went and what came, by words.
fn words(before: &str, after: &str) -> Markup {
    let diff = TextDiff::configure().timeout(TIME).diff_words(before, after);
    let mut parts: Vec<(ChangeTag, String)> = Vec::new();
    for change in diff.iter_all_changes() {
        match parts.last_mut().filter(|(tag, _)| *tag == change.tag()) {
            Some((_, part)) => part.push_str(change.value()),
            None => parts.push((change.tag(), change.value().to_owned())),
        }
    }
    let last = parts.len().saturating_sub(1);
    html! {
        p.words {
            @for (number, (tag, part)) in parts.iter().enumerate() {
                @match tag {
                    ChangeTag::Delete => { del { (text::cut(part, value::LONG)) } },
                    ChangeTag::Insert => { ins { (text::cut(part, value::LONG)) } },
                    ChangeTag::Equal => { (text::cut(&around(part, number > 0, number < last), value::LONG)) },
                }
            }
        }
    }
}

/// What stays the same, as far as it is near to what does not.
fn around(part: &str, has_before: bool, has_after: bool) -> String {
    let characters: Vec<char> = part.chars().collect();
    let near = AROUND * (usize::from(has_before) + usize::from(has_after));
    if characters.len() <= near + AROUND {
        return part.to_owned();
    }
    let head: String = if has_before { characters[..AROUND].iter().collect() } else { String::new() };
    let tail: String =
        if has_after { characters[characters.len() - AROUND..].iter().collect() } else { String::new() };
    format!("{head} … {tail}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn html(before: &str, after: &str) -> Option<String> {
        let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        fine(&json(before), &json(after)).map(Markup::into_string)
    }

    #[test]
    fn documents_differ_at_paths_and_keep_their_digits() {
        let mut paths = Vec::new();
        let (before, after) = (
            r#"{"a": {"b": 1.10, "c": [1, 2, 3]}, "same": {"x": 1}, "gone": null}"#,
            r#"{"a": {"b": 1.100, "c": [1, 5]}, "same": {"x": 1}, "new": true}"#,
        );
        compare("", before, after, 0, &mut paths);
        let shown: Vec<(&str, Option<&str>, Option<&str>)> = paths
            .iter()
            .map(|path| (path.name.as_str(), path.before.as_deref(), path.after.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("a.b", Some("1.10"), Some("1.100")),
                ("a.c[1]", Some("2"), Some("5")),
                ("a.c[2]", Some("3"), None),
                ("gone", Some("null"), None),
                ("new", None, Some("true")),
            ]
        );
    }

    #[test]
    fn a_long_text_shows_the_words_that_changed_and_little_else() {
        let long = "lorem ipsum dolor sit amet ".repeat(40);
        let before = serde_json::to_string(&format!("{long}old word. {long}")).unwrap();
        let after = serde_json::to_string(&format!("{long}new word. {long}")).unwrap();
        let html = html(&before, &after).unwrap();
        assert!(
            html.contains("<del><bdi>old</bdi></del>") && html.contains("<ins><bdi>new</bdi></ins>"),
            "{html}"
        );
        assert!(html.len() < 600 && html.contains(" … "), "{html}");
    }

    #[test]
    fn what_is_short_too_long_or_of_two_kinds_stands_side_by_side() {
        let large = serde_json::to_string(&"x ".repeat(BYTES_MAX)).unwrap();
        for (before, after) in
            [("1", "2"), (r#""a""#, r#""b""#), ("{}", "[]"), (large.as_str(), r#""b""#), ("null", "{}")]
        {
            assert_eq!(html(before, after), None);
        }
    }

    #[test]
    fn documents_that_nest_deeply_and_differ_everywhere_are_bounded() {
        let deep = |leaf: &str| "[".repeat(100) + leaf + &"]".repeat(100);
        assert!(html(&deep("1"), &deep("2")).unwrap().contains(&"[0]".repeat(DEPTH_MAX)));
        let wide =
            |n: i32| format!("[{}]", (0..2_000).map(|i| (i * n).to_string()).collect::<Vec<_>>().join(","));
        let html = html(&wide(1), &wide(3)).unwrap();
        assert!(html.contains("and more") && html.matches("<li>").count() == PATHS_MAX, "{}", html.len());
    }
}
