//! What is said beside a list, on standard error: how to go on, and why there is nothing.

use threadline::{
    capture::HostTable,
    query::{Filter, From, Kind, PageRequest, ReadError, Reader, Window},
    retention::{Horizon, Purgeable, horizon},
};
use time::OffsetDateTime;

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

/// Says that nothing was found, and what there is instead.
pub(super) async fn nothing(reader: &Reader, filter: &Filter) -> Result<(), ReadError> {
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
    let table = match &filter.table {
        // Where it is not clear which table is meant, it is one of all.
        Some(table) => reader.host_table(table).await.ok(),
        None => None,
    };
    let of = match (&table, filter.kind) {
        (Some(table), _) => Purgeable::Table(table),
        (None, Some(Kind::Action | Kind::Event | Kind::Recorded)) => Purgeable::Actions,
        (None, _) => Purgeable::Changes,
    };
    let (from, _) = filter.window.ends(OffsetDateTime::now_utc());
    if let Some(horizon) = horizon(reader, of).await?.filter(|horizon| horizon.cuts(from)) {
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
