//! `report.md`.

use std::fmt::Write as _;

use super::{
    goals::{Goal, Judgement},
    has_page, number,
    summary::{Group, Process, Summary},
    text,
};
use crate::results::Run;

/// Every process that is not a peer, in the order of its column.
const OURS: [&str; 5] = ["publisher", "consumer", "postgres", "nats-server", "bench"];

const HOW_TO_READ: &str = "\
Every number was measured in one run on the machine below, and another machine gives others. So read the ratios: a \
variant beside its limit, which is the same work without the pipeline, or beside a peer. Numbers are medians over the repeats, \
except peaks and dead tuples, which are the most of any repeat. *Spread* is the largest rate less the smallest, by the \
median. A ratio is taken within each repeat, and the median of those is shown. The A/A controls measure the limit twice: \
what differs from 1.00 there is the noise of the run, and a difference of that size means nothing elsewhere.";

/// Everything that was measured, and how.
pub(crate) fn markdown(
    run: &Run,
    summary: &Summary,
    judgement: &Judgement,
    lacks: &[(&str, &str)],
) -> String {
    let parts = [
        introduction("Benchmarks", run),
        machine(run),
        goals(judgement),
        "![Ratios beside their goals, and rows a second beside peers](chart.svg)\n".to_owned(),
        cases(summary),
        voids(summary),
        method(summary),
        peers(lacks),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

pub(super) fn introduction(title: &str, run: &Run) -> String {
    let minutes = number::times(whole_minutes(run.took), "minute");
    let form = if run.form == "smoke" {
        "\nThis is the smoke form, with few rows and repeats. It shows that the bench works; its numbers say little.\n"
    } else {
        ""
    };
    let Run { form: name, begun, .. } = run;
    format!(
        "# {title}\n\nWritten by `bench`, not by hand. {HOW_TO_READ}\n{form}\n\
         Form: {name}. Begun {begun}, took {minutes}.\n"
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a run takes no centuries")]
fn whole_minutes(seconds: f64) -> usize {
    (seconds / 60.0).round().max(1.0) as usize
}

pub(super) fn machine(run: &Run) -> String {
    let machine = &run.machine;
    let rows = [
        ("processor", machine.processor.clone()),
        ("cores", machine.cores.to_string()),
        ("memory", format!("{:.1} GiB", machine.memory_gib)),
        ("system", machine.system.clone()),
        ("PostgreSQL", machine.postgres.clone()),
        ("nats-server", machine.nats.clone()),
        ("commits one connection flushes in a second", number::rate(Some(machine.flushes_per_second))),
        ("revision", machine.revision.clone()),
    ];
    let rows: Vec<_> = rows.map(|(name, value)| vec![name.to_owned(), value]).into();
    format!("## Machine\n\n{}", table(&["", ""], 2, &rows))
}

fn goals(judgement: &Judgement) -> String {
    let mut rows: Vec<_> = judgement.goals.iter().map(goal_row).collect();
    for control in &judgement.controls {
        let (measured, note) = (control.measured.clone(), control.note.clone());
        rows.push(vec![control.name.to_owned(), "none: noise".to_owned(), measured, String::new(), note]);
    }
    format!("## Goals\n\n{}\n{}.\n", table(&GOAL_HEADER, 5, &rows), text::summary_line(judgement))
}

pub(super) const GOAL_HEADER: [&str; 5] = ["goal", "target", "measured", "", "note"];

pub(super) fn goal_row(goal: &Goal) -> Vec<String> {
    let mark =
        if goal.met == Some(false) { format!("**{}**", text::mark(goal)) } else { text::mark(goal).into() };
    vec![goal.name.to_owned(), goal.target.clone(), goal.measured.clone(), mark, goal.note.clone()]
}

/// A table for each case.
fn cases(summary: &Summary) -> String {
    let mut text = String::from(
        "## Cases\n\nUnder a process: seconds of processor time, user and system, for 100,000 rows; MiB at the peak. Of \
         several processes of one name: the time of all, the peak of the largest. Of PostgreSQL: all its processes, \
         without shared memory. Latency is from commit to visible in the timeline. A reader that stalls has \
         0 rows/s and no latency, and its ratios are 0. A column that would be empty is left out.\n",
    );
    for case in summary.cases().into_iter().filter(|case| !has_page(case)) {
        let groups: Vec<_> = summary.of_case(case).collect();
        let _ = write!(text, "\n### {}\n\n{}", escaped(case), case_table(&groups));
    }
    text
}

fn case_table(groups: &[&Group]) -> String {
    let column = |of: &dyn Fn(&Group) -> String| groups.iter().map(|group| of(group)).collect::<Vec<_>>();
    let mut columns = vec![
        ("variant", column(&|group| group.variant.to_owned())),
        ("rows/s", column(&|group| number::rate(group.rate))),
        ("spread", column(&|group| number::percent(group.spread))),
        ("p50", column(&|group| number::millis(group.p50))),
        ("p99", column(&|group| number::millis(group.p99))),
    ];
    columns.extend(OURS.map(|name| (name, column(&|group| process(group.processes.get(name))))));
    columns.push(("peer", column(&peer)));
    columns.push(("WAL bytes/row", column(&|group| number::rate(group.wal_per_row))));
    columns.push(("dead tuples", column(&|group| number::count(group.dead_tuples))));
    columns.push(("repeats", column(&|group| repeats(group))));
    columns.retain(|(_, cells)| cells.iter().any(|cell| cell != number::NONE));
    let header: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let row = |index: usize| columns.iter().map(|(_, cells)| cells[index].clone()).collect();
    table(&header, 1, &(0..groups.len()).map(row).collect::<Vec<Vec<_>>>())
}

fn process(process: Option<&Process>) -> String {
    process.map_or_else(
        || number::NONE.to_owned(),
        |process| {
            let cpu = number::with("s", number::seconds(process.cpu_per_100k));
            let peak = number::with("MiB", number::mib(Some(process.peak_mib)));
            format!("{cpu}; {peak}")
        },
    )
}

/// Peers go by their own names and share a column.
fn peer(group: &Group) -> String {
    let peers: Vec<_> = group.processes.iter().filter(|(name, _)| !OURS.contains(name)).collect();
    match peers.as_slice() {
        [] => number::NONE.to_owned(),
        [(_, one)] => process(Some(one)),
        several => {
            let each = several.iter().map(|(name, one)| format!("{name}: {}", process(Some(one))));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

fn repeats(group: &Group) -> String {
    let counted = group.samples.len();
    if group.voids == 0 { counted.to_string() } else { format!("{counted}, void {}", group.voids) }
}

fn voids(summary: &Summary) -> String {
    let row = |sample: &&crate::results::Sample| {
        let reason = sample.void.clone().unwrap_or_default();
        vec![sample.case.clone(), sample.variant.clone(), sample.repeat.to_string(), reason]
    };
    let rows: Vec<_> = summary.voids.iter().map(row).collect();
    let header = ["case", "variant", "repeat", "reason"];
    let body = if rows.is_empty() { "None.\n".to_owned() } else { table(&header, 4, &rows) };
    format!("## Void samples\n\nThey count nowhere, except for their memory.\n\n{body}")
}

fn method(summary: &Summary) -> String {
    let repeats = match summary.repeats() {
        (fewest, most) if fewest == most => number::times(most, "repeat"),
        (fewest, most) => format!("{fewest} to {most} repeats"),
    };
    format!(
        "## Method\n\n\
         - The servers are private: PostgreSQL and nats-server are started for the run and serve nothing else.\n\
         - Commits are durable: `synchronous_commit = on`. The stream is kept in files.\n\
         - The truth is counted in both databases. A sample whose source and timeline differ is void.\n\
         - Each number is the median of {repeats}. The variants of one repeat run next to each other.\n\
         - Limits, and the host without capture, are measured before and after what stands beside them. Their mean is the\n  \
         denominator, and their quotient the A/A control.\n\
         - Goals are ratios where they can be, not absolutes.\n\
         - Servers, publisher, consumer and writers share the cores. None of these rates is that of a server of its own.\n"
    )
}

fn peers(lacks: &[(&str, &str)]) -> String {
    if lacks.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "## What the peers lack\n\nA peer that takes one job at a time ran with fewer rows: rates are compared, not times, \
         and all are timed from the first row that arrived. A peer does less or other work than the pipeline where this \
         says so.\n\n",
    );
    for (name, sentence) in lacks {
        let _ = writeln!(text, "- **{}**: {sentence}", escaped(name));
    }
    text
}

/// All columns but the first few are numbers and go to the right.
pub(super) fn table(header: &[&str], left: usize, rows: &[Vec<String>]) -> String {
    let rule: String = (0..header.len()).map(|column| if column < left { "---|" } else { "--:|" }).collect();
    let mut text = format!("| {} |\n|{rule}\n", header.join(" | "));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| escaped(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// What would end a cell or begin a tag.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::{escaped, table};

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(escaped("a|b\n<c>"), "a\\|b &lt;c>");
        let rows = [vec!["x|y".to_owned(), "1".to_owned()]];
        assert_eq!(table(&["a", "b"], 1, &rows), "| a | b |\n|---|--:|\n| x\\|y | 1 |\n");
    }
}
