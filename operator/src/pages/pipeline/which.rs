//! Which failures: the query of a page, a filter, and a command line.

use std::fmt::Write as _;

use common::{
    failures::{FailureState, admin::Filter},
    identifier::ForwarderId,
    time_arg::to_rfc3339,
};
use threadline::query::{Instant, Window};
use time::OffsetDateTime;

use crate::{failure::Failure, pairs::Pairs, view::command::word};

/// Names of a filter in a query, and in a form.
const NAMES: [&str; 8] = ["forwarder", "reason", "state", "action", "last", "since", "until", "event"];

/// Which failures.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub(super) filter: Filter,
    /// As they were asked for: a window that moves goes on moving.
    pairs: Vec<(&'static str, String)>,
}

impl Which {
    /// Reads a filter; `others` are names of the page. A name that nothing is known by is an error: it would find too much.
    pub(super) fn read(pairs: &Pairs, others: &[&str], now: OffsetDateTime) -> Result<Self, Failure> {
        if let Some(name) = pairs.other_than(&[&NAMES, others, &["form", "format"]].concat()) {
            let text = format!("{name:?} is nothing that failures are found by: {}.", NAMES.join(", "));
            return Err(Failure::unusable("unknown_filter", text));
        }
        let unusable = |text: String| Failure::unusable("filter_value", text);
        let time = |name: &str| -> Result<Option<Instant>, Failure> {
            let read =
                |text: &str| text.parse::<Instant>().map_err(|error| unusable(format!("{name}: {error}")));
            pairs.get(name).map(read).transpose()
        };
        let (since, until) = Window::Between { from: time("since")?, to: time("until")? }.ends(now);
        let last = match pairs.get("last").map(str::parse) {
            Some(Ok(span)) => Window::Last(span).ends(now).0,
            Some(Err(error)) => return Err(unusable(format!("last: {error}"))),
            None => None,
        };
        let forwarder = pairs.get("forwarder").map(str::parse::<ForwarderId>).transpose();
        let state = pairs.get("state").map(str::parse::<FailureState>).transpose();
        let filter = Filter {
            forwarder: forwarder.map_err(|error| unusable(format!("{error}.")))?,
            reason: pairs.get("reason").map(str::to_owned),
            states: state.map_err(|error| unusable(format!("state: {error}.")))?.into_iter().collect(),
            action: pairs.get("action").map(str::to_owned),
            since: since.max(last),
            until,
            reference: pairs.get("event").map(reference),
        };
        let said = NAMES.iter().filter_map(|name| Some((*name, pairs.get(name)?.to_owned())));
        Ok(Self { filter, pairs: said.collect() })
    }

    /// As a link has it, with one value changed.
    pub(super) fn with<'a>(&'a self, name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let others =
            self.pairs.iter().map(|(name, value)| (*name, value.as_str())).filter(|pair| pair.0 != name);
        others.chain([(name, value)]).collect()
    }

    /// As a link has it.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        self.pairs.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// What was asked for by this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    /// The same with times that do not move.
    pub(super) fn frozen(&self) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<_> =
            self.pairs.iter().filter(|pair| !matches!(pair.0, "last" | "since")).cloned().collect();
        pairs.extend(self.filter.since.map(|since| ("since", to_rfc3339(since))));
        pairs
    }

    /// `consumer failures …` for the same.
    pub(super) fn command(&self, command: &str) -> String {
        let mut line = format!("consumer failures {command}");
        for (name, value) in &self.pairs {
            let option = match *name {
                "reason" => "reason-code",
                "last" => "since",
                "event" => "id",
                // The others go by the state that they are about.
                "state" if command != "list" => continue,
                other => other,
            };
            let value = word(value);
            let _ = write!(line, " --{option} {value}");
        }
        line
    }
}

/// UUIDs are stored in lower case, with hyphens.
fn reference(text: &str) -> String {
    text.parse::<uuid::Uuid>().map_or_else(|_| text.to_owned(), |id| id.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-05-15 10:00 UTC);

    fn read(query: &str) -> Result<Which, Failure> {
        Which::read(&Pairs::read(query.as_bytes()), &[], NOW)
    }

    #[test]
    fn a_query_is_a_filter_and_a_command() {
        let which =
            read("forwarder=timeline&reason=schema_mismatch&state=dead&action=auth.*&last=2h").unwrap();
        assert_eq!(
            which.filter.to_string(),
            "state dead, forwarder timeline, reason schema_mismatch, action auth.*, since 2026-05-15T08:00:00Z"
        );
        assert_eq!(
            which.command("list"),
            "consumer failures list --forwarder timeline --reason-code schema_mismatch --state dead --action 'auth.*' --since 2h"
        );
        assert!(!which.command("redrive").contains("--state"));
        assert_eq!(which.frozen().last(), Some(&("since", "2026-05-15T08:00:00Z".to_owned())));
        assert_eq!(which.with("state", "queued").last(), Some(&("state", "queued")));
        let hostile = read("event=%27%3B+rm+-rf+%2F").unwrap();
        assert_eq!(hostile.command("list"), r"consumer failures list --id ''\''; rm -rf /'");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (query, term) in [
            ("forwarders=timeline", "unknown_filter"),
            ("state=alive", "filter_value"),
            ("forwarder=a+b", "filter_value"),
            ("since=yesterdayish", "filter_value"),
            ("last=soon", "filter_value"),
        ] {
            assert_eq!(read(query).unwrap_err().term(), term, "{query}");
        }
        assert!(read("").unwrap().filter.is_empty() && read("state=dead").unwrap().filter.is_empty());
    }
}
