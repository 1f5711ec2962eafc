//! Commands that say the same as a page, or do what no page does: shown, and copied.

use std::fmt::Write as _;

use maud::{Markup, html};
use threadline::{ActorRef, ActorType, query::Filter, visible};

use super::copy;

/// A command with a last word; without one where that is empty.
pub(crate) fn of(command: &str, word: &str) -> String {
    if word.is_empty() { command.to_owned() } else { format!("{command} {}", quoted(word)) }
}

/// The command that exports exactly what a filter finds.
pub(crate) fn export(filter: &Filter) -> Markup {
    let command = format!(
        "threadline export run {} --profile full --output export.ndjson",
        quoted(&filter.to_string())
    );
    shown("Export of exactly this", &command)
}

/// As one word of a shell. What a terminal would act on is escaped: somebody pastes it there.
pub(crate) fn quoted(text: &str) -> String {
    if visible::text(text) == text {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = "$'".to_owned();
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            word.extend(['\\', c]);
        } else if visible::text(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            word.push(c);
        } else {
            let _ = write!(word, "\\U{:08x}", u32::from(c));
        }
    }
    word.push('\'');
    word
}

/// As one word of a shell, in quotes where it needs them.
pub(crate) fn word(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// A command in which whoever runs it is named, where that is known: whoever looks at it does.
pub(crate) fn by(command: &str, actor: &ActorRef) -> String {
    if actor.kind() == ActorType::Anonymous {
        return command.to_owned();
    }
    let name = word(&actor.to_string());
    command
        .split(' ')
        .map(|one| if one == "TYPE:ID" { name.as_str() } else { one })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A command about a row: where a word begins with a hyphen, behind `--`, so that it is no option.
pub(crate) fn of_row(command: &str, table: &str, key: &str) -> String {
    let end = if table.starts_with('-') || key.starts_with('-') { " --" } else { "" };
    format!("{command}{end} {} {}", quoted(table), quoted(key))
}

/// A command with what it is for.
pub(crate) fn shown(what: &str, command: &str) -> Markup {
    html! {
        p.command {
            span.what { (what) ": " } code { (visible::text(command)) } " " (copy("command", command))
            @if command.contains(" $'") { " (" code { "$'…'" } " is a word of bash, and of zsh)" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_command_stays_one_word() {
        assert_eq!(of("threadline timeline", ""), "threadline timeline");
        assert_eq!(of("threadline timeline", "text:it's $(x)"), r"threadline timeline 'text:it'\''s $(x)'");
    }

    #[test]
    fn whoever_looks_is_whoever_runs_it() {
        let command = "threadline capture on --actor TYPE:ID --reason TEXT";
        let actor = |id| ActorRef::new(ActorType::Admin, Some(id)).expect("an actor");
        assert_eq!(by(command, &actor("a1")), "threadline capture on --actor admin:a1 --reason TEXT");
        assert_eq!(by(command, &actor("a b")), "threadline capture on --actor 'admin:a b' --reason TEXT");
        assert_eq!(by(command, &ActorRef::anonymous()), command);
    }

    #[test]
    fn a_key_that_begins_with_a_hyphen_is_no_option() {
        assert_eq!(of_row("threadline history", "posts", "-5"), "threadline history -- 'posts' '-5'");
        assert_eq!(of_row("threadline history", "posts", "5-"), "threadline history 'posts' '5-'");
    }

    #[test]
    fn a_word_that_not_every_shell_reads_says_so() {
        let shown = |word: &str| shown("What", &of("threadline timeline", word)).into_string();
        assert!(shown("a\u{7}").contains("bash") && !shown("a b").contains("bash"));
    }

    #[test]
    fn nothing_in_a_word_is_something_that_a_terminal_acts_on() {
        for (text, word) in [
            ("a\u{1b}[201~\nrm", r"$'a\U0000001b[201~\U0000000arm'"),
            ("\u{202e}it's a \\", r"$'\U0000202eit\'s a \\'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
