//! From the words and the flags of a command line to what is exported.

use std::{fs, path::Path};

use threadline::{
    ActorRef,
    export::{Format, Options, Profile},
    query::Filter,
};

use super::run::Arguments;
use crate::cli::{
    answer::Failure,
    read::{filter_of_words, refused_filter},
};

/// Where an export goes to when it is no file.
pub(super) const STANDARD_OUTPUT: &str = "-";

impl Arguments {
    /// The filter. The flags of the Elixir library's task are filters of one key each.
    pub(super) fn filter(&self) -> Result<Filter, Failure> {
        let mut words = self.what.filter.clone();
        let mut add =
            |key: &str, value: Option<&String>| words.extend(value.map(|value| format!("{key}:{value}")));
        add("table", self.table.as_ref());
        add("from", self.from.as_ref());
        add("to", self.to.as_ref());
        let filter = filter_of_words(&words).map_err(|error| refused_filter(&error))?;
        match &self.actor_json {
            None => Ok(filter),
            Some(_) if filter.actor.is_some() => Err(Failure::Misused(
                "filter_twice: the actor is asked for by a filter and by --actor-json: leave one of them out"
                    .to_owned(),
            )),
            Some(path) => {
                let filter = Filter { actor: Some(actor_of(path)?), ..filter };
                filter.check().map_err(|error| refused_filter(&error))?;
                Ok(filter)
            }
        }
    }

    /// How it is made. Without a format it is the one that the name of the file ends with, or CSV.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        let json_format = match (self.what.format, self.json_format) {
            (Some(Format::Json) | None, json_format) => json_format,
            (Some(_), None) => None,
            (Some(_), Some(_)) => {
                let why = "export_options: --json-format is of --format json: leave one of them out";
                return Err(Failure::Misused(why.to_owned()));
            }
        };
        Ok(self.what.options(json_format, self.output.as_deref()))
    }
}

/// The actor that a file holds as JSON.
fn actor_of(path: &Path) -> Result<ActorRef, Failure> {
    let refuse = |why: String| Failure::Misused(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    ActorRef::from_json(&value).map_err(|error| refuse(error.to_string()))
}

pub(super) fn profile(text: &str) -> Result<Profile, String> {
    text.parse().map_err(|error: threadline::export::ExportError| error.to_string())
}

pub(super) fn format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|error: threadline::export::ExportError| error.to_string())
}

/// How the Elixir library's task says which JSON.
pub(super) fn json_format(text: &str) -> Result<Format, String> {
    match text {
        "wrapped" => Ok(Format::Json),
        "ndjson" => Ok(Format::Ndjson),
        _ => Err(format!("{text:?} is no form of JSON: wrapped or ndjson")),
    }
}
