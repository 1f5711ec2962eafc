//! Failures for people.

use std::fmt::Write as _;

use common::failures::admin::FailureRecord;
use serde_json::Value;

/// How much of an error a line of the table shows.
const ERROR_SHOWN: usize = 60;

/// A line for each.
pub(crate) fn table(records: &[FailureRecord], limit: u32) -> String {
    if records.is_empty() {
        return "no failures match\n".to_owned();
    }
    let mut text = String::new();
    for record in records {
        let FailureRecord { last_failed_at, forwarder, state, attempts, reference, .. } = record;
        let reason = record.reason.as_deref().unwrap_or("-");
        let action = record.action.as_deref().unwrap_or("-");
        let error: String = record.error.iter().flat_map(|error| error.chars()).take(ERROR_SHOWN).collect();
        let error = error.replace(char::is_control, " ");
        let _ = writeln!(
            text,
            "{last_failed_at}  {forwarder}  {state} {reason}  attempts {attempts}  {reference}  {action}  {error}"
        );
    }
    if records.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
        let _ = writeln!(text, "only the first {limit} are shown: --limit shows more, filters fewer");
    }
    text
}

/// Everything about the failures of one event.
pub(crate) fn details(records: &[FailureRecord], row: Option<&Value>) -> anyhow::Result<String> {
    let mut text = String::new();
    for record in records {
        let _ = writeln!(text, "forwarder      {}", record.forwarder);
        let _ = writeln!(text, "event          {}", record.reference);
        let _ = writeln!(text, "state          {}", record.state);
        let _ = writeln!(text, "reason         {}", record.reason.as_deref().unwrap_or("none yet"));
        let _ = writeln!(text, "attempts       {}", record.attempts);
        let _ = writeln!(text, "first failed   {}", record.first_failed_at);
        let _ = writeln!(text, "last failed    {}", record.last_failed_at);
        for (name, value) in [("next attempt", &record.next_attempt_at), ("note", &record.note)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{name:<14} {value}");
            }
        }
        let _ = writeln!(text, "error          {}\n", record.error.as_deref().unwrap_or("none"));
    }
    match row {
        Some(row) => {
            let _ = writeln!(text, "audit row\n{}", serde_json::to_string_pretty(row)?);
        }
        None => text += "the audit row does not exist (any more)\n",
    }
    Ok(text)
}
