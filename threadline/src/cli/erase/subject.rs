//! Whom or what is erased: on the command line, or in a file, so that it is in no list of processes.

use std::{fmt::Display, fs::File, io::Read as _, path::PathBuf};

use threadline::{
    ActorRef,
    capture::Refusal,
    erasure::{Erasure, ErasurePolicy},
    query::{Key, Table},
};

use super::run::{How, run};
use crate::cli::{
    answer::{Answer, Failure},
    capture::actor,
    read::{key_of_words, table_of_words},
    settings::{Settings, Target},
};

/// Bytes of a subject that is read from a file.
const SUBJECT_MAX: u64 = 64 << 10;

/// `threadline erase row`.
#[derive(Debug, clap::Args)]
pub(crate) struct OfRow {
    /// The table: posts, or billing.posts where several schemas have one.
    #[arg(value_name = "TABLE", value_parser = table_of_words)]
    table: Table,
    /// The key of the row: its value, or {"order":"1","line":"7"} where it has several columns.
    #[arg(
        value_name = "KEY",
        allow_negative_numbers = true,
        required_unless_present = "subject_file",
        conflicts_with = "subject_file"
    )]
    key: Option<String>,
    /// Only these columns; without it, all but those of the key.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// The key too, in filters of exports as well: a pseudonym takes its place.
    #[arg(long)]
    key_too: bool,
    #[command(flatten)]
    file: SubjectFile,
    #[command(flatten)]
    how: How,
}

/// `threadline erase actor`.
#[derive(Debug, clap::Args)]
pub(crate) struct OfActor {
    /// Who, such as user:u1.
    #[arg(value_name = "TYPE:ID", required_unless_present = "subject_file", conflicts_with = "subject_file")]
    actor_id: Option<String>,
    /// Contexts of transactions, and reasons and comments of actions too.
    #[arg(long)]
    texts: bool,
    #[command(flatten)]
    file: SubjectFile,
    #[command(flatten)]
    how: How,
}

/// `threadline erase person`.
#[derive(Debug, clap::Args)]
pub(crate) struct OfPerson {
    /// What the subject columns hold of the person.
    #[arg(value_name = "ID", required_unless_present = "subject_file", conflicts_with = "subject_file")]
    id: Option<String>,
    #[command(flatten)]
    file: SubjectFile,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct SubjectFile {
    /// Reads the key, TYPE:ID or ID from a file, - for standard input, so that it is in no list of processes.
    #[arg(long, value_name = "FILE")]
    subject_file: Option<PathBuf>,
}

impl SubjectFile {
    /// What was given, or what stands in the file, without the end of its line.
    fn or(&self, given: Option<String>) -> Result<String, Failure> {
        let Some(path) = &self.subject_file else { return Ok(given.unwrap_or_default()) };
        let refused =
            |why: &dyn Display| invalid(&format!("cannot read the subject from {}: {why}", path.display()));
        let mut bytes = Vec::new();
        // The end of the line and a byte more, so that a longer one is not taken for what it begins with.
        let read = if path.as_os_str() == "-" {
            std::io::stdin().take(SUBJECT_MAX + 3).read_to_end(&mut bytes)
        } else {
            File::open(path).and_then(|file| file.take(SUBJECT_MAX + 3).read_to_end(&mut bytes))
        };
        read.map_err(|error| refused(&error))?;
        let is_whole = bytes.len() as u64 <= SUBJECT_MAX + 2;
        let text = String::from_utf8(bytes).map_err(|_| refused(&"it is not UTF-8"));
        let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        if !is_whole || text.as_ref().is_ok_and(|text| text.len() as u64 > SUBJECT_MAX) {
            return Err(refused(&format!("it has more than {} KiB", SUBJECT_MAX >> 10)));
        }
        text
    }
}

/// What is refused is not repeated: it is what is to be forgotten.
fn invalid(what: &str) -> Failure {
    Refusal { term: "subject_invalid", reason: what.to_owned(), hint: None }.into()
}

pub(super) fn row(target: Target, arguments: OfRow) -> Result<Answer, Failure> {
    let OfRow { table, key, columns, key_too, file, how } = arguments;
    how.check()?;
    let key: Key = key_of_words(&file.or(key)?)
        .map_err(|_| invalid("expected the key of a row: its value, or an object of texts"))?;
    let settings = Settings::read(target)?;
    run(settings, &Erasure::Row { table, key, columns, key_too }, &how)
}

pub(super) fn actor_of(target: Target, arguments: OfActor) -> Result<Answer, Failure> {
    let OfActor { actor_id, texts, file, how } = arguments;
    how.check()?;
    let actor: ActorRef =
        actor(&file.or(actor_id)?).map_err(|_| invalid("expected TYPE:ID, such as user:u1"))?;
    let settings = Settings::read(target)?;
    run(settings, &Erasure::Actor { actor, texts }, &how)
}

pub(super) fn person(target: Target, arguments: OfPerson) -> Result<Answer, Failure> {
    let OfPerson { id, file, how } = arguments;
    how.check()?;
    let id = file.or(id)?;
    let settings = Settings::read(target)?;
    let policy = ErasurePolicy::read(settings.erasure.as_ref().unwrap_or(&serde_json::Map::new()))?;
    run(settings, &Erasure::Person { id, policy }, &how)
}
