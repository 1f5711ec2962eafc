//! A page: its blocks, and the ids and times in them, which are others in every run.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use anyhow::Context as _;

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'p> {
    /// What stands behind the fence: `sql`, `console` and the like.
    pub(super) kind: &'p str,
    pub(super) text: &'p str,
    /// Where the text is in the page.
    pub(super) at: Range<usize>,
}

/// All blocks of a page, in its order.
pub(super) fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in page.split_inclusive('\n') {
        match (line.strip_prefix("```"), open) {
            (Some(_), Some((kind, from))) => {
                found.push(Block { kind, text: &page[from..at], at: from..at });
                open = None;
            }
            (Some(kind), None) => open = Some((kind.trim_end(), at + line.len())),
            (None, _) => {}
        }
        at += line.len();
    }
    found
}

/// The commands of a console, each with the output that follows it.
pub(super) fn commands(console: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in console.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command, String::new())),
            (None, Some((_, output))) => output.extend([line, "\n"]),
            (None, None) => panic!("a console begins with a command, not with {line}"),
        }
    }
    found
}

/// What differs between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Id,
    Time,
    /// A digest or a key, in hexadecimal.
    Digest,
    /// Which cluster and which database of it.
    Database,
}

const ID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
const DIGEST: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const TIME: &str = "dddd-dd-ddTdd:dd:ddZ";
const EXACT_TIME: &str = "dddd-dd-ddTdd:dd:dd.ddddddZ";

/// How long the beginning of a text is that has this form.
fn form(text: &str, form: &str) -> Option<usize> {
    let fits = |(byte, form): (u8, u8)| match form {
        b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        b'd' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    (text.len() >= form.len() && text.bytes().zip(form.bytes()).all(fits)).then_some(form.len())
}

/// How long the beginning of a text is that names a cluster and a database, as receipts do.
fn database(text: &str) -> Option<usize> {
    let (cluster, name) = text.split_once('/')?;
    let is_cluster = cluster.len() == 19 && cluster.bytes().all(|byte| byte.is_ascii_digit());
    let length = name.find(|one: char| !(one.is_ascii_alphanumeric() || one == '_')).unwrap_or(name.len());
    (is_cluster && length > 0).then_some(cluster.len() + 1 + length)
}

/// The marks of a text, in its order.
fn marks(text: &str) -> Vec<(Mark, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let other = form(rest, DIGEST).map(|length| (Mark::Digest, length));
        let other = other.or_else(|| database(rest).map(|length| (Mark::Database, length)));
        let mark = form(rest, ID).map(|length| (Mark::Id, length)).or(other).or_else(|| {
            form(rest, TIME).or_else(|| form(rest, EXACT_TIME)).map(|length| (Mark::Time, length))
        });
        let length = mark.map_or(1, |(_, length)| length);
        found.extend(mark.map(|(mark, _)| (mark, at..at + length)));
        at += length;
    }
    found
}

/// A text with other marks.
fn replaced<E>(
    text: &str,
    mut with: impl FnMut(usize, Mark, &str) -> Result<String, E>,
) -> Result<String, E> {
    let mut written = String::new();
    let mut end = 0;
    for (number, (mark, range)) in marks(text).into_iter().enumerate() {
        written += &text[end..range.start];
        written += &with(number, mark, &text[range.clone()])?;
        end = range.end;
    }
    Ok(written + &text[end..])
}

/// Which id and which time of a run is which one of the page.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// From the page to the run, one to one.
    ids: HashMap<String, String>,
    taken: HashSet<String>,
    /// From the page to the earliest time of the run that stood in its place.
    times: HashMap<String, String>,
}

impl Names {
    /// An output of the run as the page would show it: an id is written as the page's if both have come at the same places so far,
    /// and a time as the one that the page has there.
    pub(super) fn of_page(&mut self, page: &str, run: &str) -> String {
        let theirs = marks(page);
        let written = replaced(run, |number, mark, ours| {
            let same = theirs.get(number).filter(|(their, _)| *their == mark);
            let theirs = same.map_or("", |(_, range)| &page[range.clone()]);
            Ok::<_, std::convert::Infallible>(match mark {
                Mark::Time if theirs.is_empty() => ours.to_owned(),
                Mark::Time => self.time(theirs, ours),
                Mark::Id | Mark::Digest | Mark::Database => self.id(theirs, ours),
            })
        });
        let Ok(written) = written;
        written
    }

    fn time(&mut self, theirs: &str, ours: &str) -> String {
        let earliest = self.times.entry(theirs.to_owned()).or_insert_with(|| ours.to_owned());
        if ours < earliest.as_str() {
            ours.clone_into(earliest);
        }
        theirs.to_owned()
    }

    fn id(&mut self, theirs: &str, ours: &str) -> String {
        if !theirs.is_empty() && !self.ids.contains_key(theirs) && !self.taken.contains(ours) {
            self.taken.insert(ours.to_owned());
            self.ids.insert(theirs.to_owned(), ours.to_owned());
        }
        let known = self.ids.get(theirs).is_some_and(|known| known == ours);
        if known { theirs } else { ours }.to_owned()
    }

    /// A command of the page with the ids and times of the run.
    pub(super) fn of_run(&self, command: &str) -> anyhow::Result<String> {
        replaced(command, |_, mark, theirs| {
            let names = if mark == Mark::Time { &self.times } else { &self.ids };
            let ours = names.get(theirs).cloned();
            ours.with_context(|| format!("{theirs} of the command {command} is in no output before it"))
        })
    }
}

#[test]
fn an_output_is_that_of_the_page_only_with_the_same_ids_at_the_same_places() {
    let id = |number: u8| format!("0000000{number}-0000-4000-8000-000000000000");
    let text = |a: &str, b: &str, c: &str, at: &str| format!("{a} é {b} {at} {c}\n");
    let page = text(&id(1), &id(2), &id(1), "2026-05-15T12:00:00Z");
    let mut names = Names::default();
    let run = text(&id(3), &id(4), &id(3), "2027-01-01T00:00:00Z");
    assert_eq!(names.of_page(&page, &run), page);
    let command = format!("undo-plan {} --at 2026-05-15T12:00:00Z", id(2));
    assert_eq!(names.of_run(&command).unwrap(), format!("undo-plan {} --at 2027-01-01T00:00:00Z", id(4)));
    assert!(names.of_run(&id(3)).is_err(), "the page has no such id");
    for run in
        [text(&id(4), &id(3), &id(4), ""), text(&id(3), &id(4), &id(5), ""), text(&id(3), &id(3), &id(3), "")]
    {
        let page = text(&id(1), &id(2), &id(1), "");
        assert_ne!(names.of_page(&page, &run), page, "{run}");
    }
}

#[test]
fn digests_and_databases_are_other_ones_in_every_run_too() {
    let text =
        |digit: &str, cluster: &str| format!("hash {} of {cluster}/shop/public; 7 rows\n", digit.repeat(64));
    let (page, run) = (text("a", "7342000000000000001"), text("b", "7342000000000000002"));
    let mut names = Names::default();
    assert_eq!(names.of_page(&page, &run), page);
    assert_ne!(names.of_page(&page, &text("c", "7342000000000000002")), page);
}
