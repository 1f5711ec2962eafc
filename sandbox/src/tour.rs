//! What to try where a demo was left running: a shell script, to be pasted step by step or as a whole, with its explanations
//! as comments.

use std::{fmt::Write as _, path::Path};

use uuid::Uuid;

/// What the script is about.
#[derive(Debug)]
pub(crate) struct Tour<'a> {
    /// The folder with logs and settings.
    pub(crate) folder: &'a Path,
    /// Folders of the pipeline's binaries, and of psql where the servers are ours.
    pub(crate) binaries: Vec<&'a Path>,
    /// Where the servers are.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// An event that has arrived.
    pub(crate) event: Uuid,
    /// The processes of the consumers.
    pub(crate) consumers: Vec<u32>,
    /// Where a browser sees the timeline.
    pub(crate) pages: &'a str,
}

impl Tour<'_> {
    /// The script.
    pub(crate) fn text(&self) -> String {
        let binaries: Vec<String> = self.binaries.iter().map(|path| path.display().to_string()).collect();
        let mut text = format!(
            "# Everything keeps running until Ctrl-C here. A tour, for another terminal:\n\
             cd {}\nexport PATH={}:\"$PATH\"\n",
            quoted(&self.folder.display().to_string()),
            quoted(&binaries.join(":"))
        );
        for (name, value) in self.environment {
            let _ = writeln!(text, "export {name}={}", quoted(value));
        }
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let consumers: Vec<String> = self.consumers.iter().map(u32::to_string).collect();
        let _ = write!(
            text,
            "\n# Where everything stands.\n\
             publisher status\n\
             consumer status\n\
             \n# The status of one event at every step, from the audit row to the timeline.\n\
             consumer explain {event}\n\
             \n# What people see in a browser: {pages}\n\
             # What happened to an order: {pages}row?table=orders&key=4001\n\
             # What could not be delivered: {pages}pipeline/failures\n\
             \n# What people query.\n\
             psql \"$THREADLINE_DATABASE_URL\" --command \"select inserted_at, name, status, actor_ref from audit_actions \
             order by inserted_at desc limit 5\"\n\
             \n# An event of your own. Look again a moment later.\n\
             {insert_first}\
             consumer explain {first}\n\
             \n# Kill all consumers and write another one: it waits, and arrives once somebody forwards again.\n\
             kill -9 {consumers}\n\
             {insert_second}\
             consumer status\n\
             consumer run --set consumer.listen=127.0.0.1:0 2>consumer-again.log &\n\
             consumer explain {second}\n\
             \n# Whether everything is there, row by row.\n\
             consumer reconcile\n",
            event = self.event,
            pages = self.pages,
            consumers = consumers.join(" "),
            insert_first = insert(first),
            insert_second = insert(second),
        );
        text
    }
}

fn insert(id: Uuid) -> String {
    format!(
        "psql \"$SOURCE_DATABASE_URL\" --command \"insert into audit_events (id, occurred_at, action, outcome, inserted_at) \
         values ('{id}', now() at time zone 'UTC', 'demo.tour', 'success', now() at time zone 'UTC')\"\n"
    )
}

/// As a shell reads it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted("/a b/it's"), "'/a b/it'\\''s'");
    }
}
