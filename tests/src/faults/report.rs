//! What a run found, as a table.

use std::{fmt::Write as _, time::Duration};

/// One scenario's line.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub scenario: &'static str,
    /// What was done.
    pub what: &'static str,
    /// Rows committed meanwhile.
    pub events: usize,
    /// How often it was done.
    pub faults: usize,
    /// Processes and servers killed.
    pub kills: u32,
    /// Committed and not in the timeline.
    pub lost: usize,
    /// In the timeline more than once.
    pub twice: usize,
    /// In the timeline and not committed.
    pub foreign: usize,
    /// Rows left in `outbox.failures`: an outage charges nobody.
    pub charged: usize,
    /// From the end of each fault to the arrival of a row committed then.
    pub recoveries: Vec<Duration>,
}

impl Row {
    /// Whether nothing was lost, repeated, invented or charged.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost + self.twice + self.foreign + self.charged == 0
    }

    fn recovery(&self) -> (Duration, Duration) {
        let mut sorted = self.recoveries.clone();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        (median, sorted.last().copied().unwrap_or_default())
    }
}

/// The table of the report, in Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = "| scenario | events | faults | kills | lost | twice | foreign | charged | recovery, median | longest |\n\
                    |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        let (median, longest) = row.recovery();
        let Row { scenario, events, faults, kills, lost, twice, foreign, charged, .. } = row;
        let _ = writeln!(
            text,
            "| {scenario} | {events} | {faults} | {kills} | {lost} | {twice} | {foreign} | {charged} | {:.1} s | {:.1} s |",
            median.as_secs_f64(),
            longest.as_secs_f64()
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let kills: u32 = rows.iter().map(|row| row.kills).sum();
    let _ = writeln!(
        text,
        "| **all** | **{}** | **{}** | **{kills}** | **{}** | **{}** | **{}** | **{}** | | |",
        sum(|row| row.events),
        sum(|row| row.faults),
        sum(|row| row.lost),
        sum(|row| row.twice),
        sum(|row| row.foreign),
        sum(|row| row.charged)
    );
    text
}

/// The whole report.
#[must_use]
pub fn markdown(rows: &[Row], versions: &str, took: Duration) -> String {
    let mut text = format!(
        "# Fault report\n\n\
         Written by `make faults`, not by hand. Two publishers, two consumers, PostgreSQL and NATS, all real and private, \
         a TCP proxy on each of the five links, and an application that commits about a hundred transactions a second \
         throughout. After each fault a row is committed and waited for; its way takes the time under \"recovery\", which \
         begins when the fault has ended. At the end of each scenario source and timeline are compared as multisets.\n\n\
         - *lost*: committed and not in the timeline; *twice*: there more than once; *foreign*: there and not committed\n\
         - *charged*: rows left in `outbox.failures`; an outage may not use a single attempt\n\n\
         {versions}; {:.0} minutes on two cores.\n\n",
        took.as_secs_f64() / 60.0
    );
    text += &table(rows);
    text += "\nWhat each does:\n\n";
    for row in rows {
        let _ = writeln!(text, "- **{}**: {}.", row.scenario, row.what);
    }
    text
}
