//! What is said beside a list, on standard error: how to go on, and why there is nothing.

use threadline::{
    capture::HostTable,
    query::{Filter, From, PageRequest, ReadError, Reader, Window},
    retention::{self, Horizon, Purgeable, horizon},
};

use crate::cli::answer::Failure;

use super::{
    render::{note, time},
    session::Session,
};

/// The command line of this process with another value of an option, such as `--cursor`.
pub(super) fn command(option: &str, value: &str) -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    command_of(&arguments, option, value)
}

fn command_of(arguments: &[String], option: &str, value: &str) -> String {
    let mut words = vec!["threadline".to_owned()];
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == option {
            arguments.next();
        } else if argument.split_once('=').is_none_or(|(name, _)| name != option) {
            words.push(quoted(argument));
        }
    }
    words.extend([option.to_owned(), quoted(value)]);
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@%+".contains(c);
    // Inside of a word a tilde stands for itself; cursors have some.
    let is_inner = |(index, c): (usize, char)| is_plain(c) || (c == '~' && index > 0);
    if !word.is_empty() && word.chars().enumerate().all(is_inner) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Warns where the table that a filter names is not there and no change is of it; whether it did.
pub(super) async fn unknown_table(reader: &Reader, filter: &Filter) -> Result<bool, ReadError> {
    match reader.require_table(filter).await {
        Err(error) if error.term() == Some("table_unknown") => {
            note(&format!("nothing found: {error}"));
            Ok(true)
        }
        known => known.map(|()| false),
    }
}

/// Says that nothing was found, and what there is instead.
pub(super) async fn nothing(reader: &Reader, filter: &Filter) -> Result<(), ReadError> {
    if unknown_table(reader, filter).await? {
        return Ok(());
    }
    let newest = async |filter: &Filter| {
        let request = PageRequest { size: 1, from: From::Newest, ..PageRequest::default() };
        reader.page(filter, &request).await.map(|page| page.entries.first().map(|entry| time(entry.at())))
    };
    let anywhere = Filter { window: Window::Everything, ..filter.clone() };
    if filter.window != Window::Everything
        && let Some(at) = newest(&anywhere).await?
    {
        note(&format!("nothing found in this window; without it the newest entry is of {at}"));
    } else if let Some(at) = newest(&Filter::default()).await? {
        note(&format!("nothing found; the newest entry of the timeline is of {at}"));
    } else {
        note(
            "nothing found; the timeline is empty: `threadline health coverage` says which tables are captured",
        );
    }
    Ok(())
}

/// Says what a list that has come to its end may lack because it was purged.
pub(super) async fn purged(reader: &Reader, filter: &Filter) -> Result<(), ReadError> {
    if let Some(horizon) = retention::purged(reader, filter).await? {
        note(&horizon.to_string());
    }
    Ok(())
}

/// Up to where changes of a table were purged.
pub(super) async fn horizon_of(session: &mut Session, table: &HostTable) -> Result<Option<Horizon>, Failure> {
    session.answer(async |reader| horizon(reader, Purgeable::Table(table)).await).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_is_the_same_with_another_cursor() {
        let cursor = "1747310400000000~b0000000000040008000000000000001";
        let of = |arguments: &[&str]| {
            command_of(
                &arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
                "--cursor",
                cursor,
            )
        };
        assert_eq!(
            of(&[
                "timeline",
                "--cursor",
                "1~2",
                "text:it's two",
                "--limit=5",
                "action:user.*",
                "--cursor=3~4",
                ""
            ]),
            r"threadline timeline 'text:it'\''s two' --limit=5 'action:user.*' '' --cursor 1747310400000000~b0000000000040008000000000000001"
        );
    }
}
