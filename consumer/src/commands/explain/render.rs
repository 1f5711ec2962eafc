//! An explanation, for people.

use std::fmt::Write as _;

use common::{failures::diagnosis::InTimeline, outbox::admin::event_status::Blocker};

use super::{
    Explanation,
    stream::{Durable, Message},
};

impl Explanation {
    pub(crate) fn text(&self) -> String {
        let mut text = format!("event {}\n  => {}\n", self.id, self.diagnosis);
        match &self.status.row {
            Some(row) => {
                let _ = writeln!(
                    text,
                    "audit row   {} at {}",
                    row.action.as_deref().unwrap_or("?"),
                    row.occurred_at.as_deref().unwrap_or("?")
                );
            }
            None => text.push_str("audit row   none\n"),
        }
        for entry in &self.status.entries {
            let target = entry.forwarder.as_deref().unwrap_or("every forwarder");
            let _ =
                writeln!(text, "entry       transaction {}, number {}, for {target}", entry.xid, entry.seq);
            for reader in &entry.readers {
                let _ = writeln!(text, "            {}: {}", reader.reader, reader.state.words());
            }
        }
        if self.status.entries.is_empty() {
            text.push_str("entry       none in the log (never captured, or pruned)\n");
        }
        for Blocker { pid, seconds, state, application, .. } in &self.status.blockers {
            let _ = writeln!(text, "running     process {pid} ({application}), {state}, for {seconds:.0} s");
        }
        if let Some(why) = &self.stream.unknown {
            let _ = writeln!(text, "stream      {why}");
        }
        for Message { sequence, references, id, stored_at } in &self.stream.messages {
            let with =
                if *references > 1 { format!(" with {} others", references - 1) } else { String::new() };
            let _ = writeln!(text, "stream      sequence {sequence}{with}, id {id}, stored {stored_at}");
        }
        for Durable { name, settled_up_to, pending } in &self.stream.durables {
            let _ = writeln!(text, "durable     {name}: settled up to {settled_up_to}, {pending} pending");
        }
        for failure in &self.failures {
            let reason = failure.reason.as_deref().unwrap_or("no reason yet");
            let _ = writeln!(
                text,
                "failure     {}: {} ({reason}), {} attempts",
                failure.forwarder, failure.state, failure.attempts
            );
        }
        for InTimeline { forwarder, state, columns, receipt } in &self.timelines {
            let columns =
                if columns.is_empty() { String::new() } else { format!(": {}", columns.join(", ")) };
            let receipt = receipt.map_or_else(String::new, |n| format!(", sealed by receipt {n}"));
            let _ = writeln!(text, "timeline    {forwarder}: {state}{columns}{receipt}");
        }
        text
    }
}
