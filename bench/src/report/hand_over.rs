//! `handover.md`: what it costs to hand a timeline over, to purge it, and to seal and verify it.

use super::{
    goals::Judgement,
    hand_over_goals::{NAMES, beside_copy, beside_library, beside_undisturbed, seconds},
    markdown::{GOAL_HEADER, goal_row, introduction, machine, table},
    number,
    summary::{Group, Summary},
};
use crate::{
    cases::hand_over::{CASES, CSV, DELETED, DISTURBED, DROP, NDJSON, OURS, PARTITION_DROP, PURGE, RECEIPTS},
    results::Run,
};

pub(super) use super::hand_over_goals::is_of;

const METHOD: &str = "\
The same rows, skewed as those of applications are: 1,000,000 changes in 300,000 transactions and 200,000 actions in the full form, a \
twentieth of each in the smoke form; vacuumed and analysed. **threadline** is the released binary, and its time that of the process \
from its start to its end. Its memory is what the system says it held at the peak. What it writes is on disk before it ends.

- **Export**: `threadline export run --unrecorded -o FILE` of all changes, in the profile `exact`.
- **copy**: `copy (select …) to stdout` of the same columns and rows in the same order, with the document of the transaction made by \
the server, through a connection of the same kind into a file. For NDJSON it copies the linked action too, as columns: the server \
makes no lines of JSON. It has no manifest, digests or canonical documents. It is measured before each export and behind it.
- **library**: the statement of the Elixir library's export, written for this comparison: pages of 1,000 rows, each behind the last row of \
the one before, on its own tables and indexes, prepared once as its driver does. The rows are decoded and written as CSV by a plain loop in \
Rust, which is faster than the library.
- **Purge**: `threadline retention purge --execute` with its defaults deletes of the older half of the changes, and the transactions that \
have no other ones, until it has come to its end or is told to stop after three minutes (ten seconds in the smoke form), while 8 connections insert 1,000 captured rows a second, one in each transaction. The same writers write alone before it and \
behind it. A write that has to wait for the one before counts from when it was due.
- **A month**: half of the changes, stored in the table of one month, go with it by the statement that a purge calls, beside the same writers. It counts \
them and holds the lock from its beginning to its end.
- **Receipts**: `threadline receipts seal` takes everything into the first receipt, `bundle` writes it with its rows into a file, `verify-bundle` \
verifies the file without a server, `verify` the timeline itself. Nothing is signed: a signature for each receipt is no matter of time. \
";

/// Nothing where nothing of it was measured.
pub(super) fn markdown(run: &Run, summary: &Summary, judgement: &Judgement) -> Option<String> {
    summary.cases().into_iter().find(|case| is_of(case))?;
    let goals: Vec<_> =
        judgement.goals.iter().filter(|goal| goal.name.starts_with(NAMES)).map(goal_row).collect();
    let parts = [
        introduction("What exports, purges and receipts cost", run),
        machine(run),
        format!("## Method\n\n{METHOD}\n"),
        format!("## Goals\n\n{}", table(&GOAL_HEADER, 5, &goals)),
        format!("## Exports\n\n{}", exports(summary)),
        format!("## A purge beside writers\n\n{}\n{}", writers(summary), deleted(summary)),
        format!("## Receipts\n\n{}", receipts(summary)),
        format!("## A month that is dropped\n\n{}", partitions(summary)),
        voids(summary),
    ];
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"))
}

fn exports(summary: &Summary) -> String {
    let mut rows = Vec::new();
    for case in [CSV, NDJSON] {
        for group in summary.of_case(case) {
            let is_ours = group.variant == OURS;
            let by_copy = beside_copy(summary, case).filter(|_| is_ours);
            let by_library = beside_library(summary).filter(|_| is_ours && case == CSV);
            let mut row = vec![case[CASES.len()..].to_owned(), group.variant.to_owned()];
            row.push(number::rate(group.rate));
            row.extend(command(group));
            row.push(number::ratio(by_copy.map(|ratio| ratio.median)));
            row.push(number::ratio(by_library.map(|ratio| ratio.median)));
            rows.push(row);
        }
    }
    let header =
        ["format", "by", "rows/s", "its CPU, 100,000 rows", "its memory", "rate / copy", "time / library"];
    table(&header, 2, &rows)
}

fn writers(summary: &Summary) -> String {
    let row = |group: &Group| {
        let ratio = beside_undisturbed(summary).filter(|_| group.variant == DISTURBED);
        vec![
            group.variant.to_owned(),
            number::rate(group.rate),
            number::millis(group.p50),
            number::millis(group.p99),
            number::ratio(ratio.map(|ratio| ratio.median)),
        ]
    };
    let rows: Vec<_> = summary.of_case(PURGE).map(row).collect();
    table(&["writers", "rows/s", "p50", "p99", "p99 / undisturbed"], 1, &rows)
}

fn deleted(summary: &Summary) -> String {
    let row = |group: &Group| {
        let deleted = group.samples.iter().map(|sample| sample.rows).min();
        let mut row = vec!["purge".to_owned(), number::count(deleted), number::rate(group.rate)];
        row.extend(command(group));
        row
    };
    let rows: Vec<_> = summary.of_case(DELETED).map(row).collect();
    table(&["command", "changes, at least", "changes/s", "its CPU, 100,000 changes", "its memory"], 1, &rows)
}

fn receipts(summary: &Summary) -> String {
    let row = |group: &Group| {
        let million = seconds(summary, RECEIPTS, group.variant).map(|seconds| seconds * 1_000.0);
        let mut row = vec![group.variant.to_owned(), number::millis(million)];
        row.extend(command(group));
        row
    };
    let rows: Vec<_> = summary.of_case(RECEIPTS).map(row).collect();
    table(&["command", "1,000,000 changes", "its CPU, 100,000 changes", "its memory"], 1, &rows)
}

fn partitions(summary: &Summary) -> String {
    let row = |group: &Group| {
        let rows = group.samples.first().and_then(|sample| u32::try_from(sample.rows).ok());
        let took = group.rate.zip(rows).map(|(rate, rows)| f64::from(rows) / rate * 1_000.0);
        let changes = rows.filter(|_| group.variant == DROP);
        vec![group.variant.to_owned(), number::count(changes.map(u64::from)), number::millis(took)]
    };
    let rows: Vec<_> = summary.of_case(PARTITION_DROP).map(row).collect();
    if rows.is_empty() {
        return "Not measured.\n".to_owned();
    }
    table(&["what", "changes", "time"], 1, &rows)
}

/// What the command itself took: processor time and memory.
fn command(group: &Group) -> [String; 2] {
    let taken = group.processes.get(OURS);
    let cpu = number::seconds(taken.and_then(|taken| taken.cpu_per_100k));
    let peak = number::mib(taken.map(|taken| taken.peak_mib));
    [number::with("s", cpu), number::with("MiB", peak)]
}

fn voids(summary: &Summary) -> String {
    let voids = summary.voids.iter().filter(|sample| is_of(&sample.case));
    let row = |sample: &&crate::results::Sample| {
        let reason = sample.void.clone().unwrap_or_default();
        vec![sample.case.clone(), sample.variant.clone(), sample.repeat.to_string(), reason]
    };
    let rows: Vec<_> = voids.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["case", "variant", "repeat", "reason"];
    format!("## Void samples\n\nThey count nowhere, except for their memory.\n\n{}", table(&header, 4, &rows))
}

#[cfg(test)]
mod tests {
    use super::markdown;
    use crate::report::{
        example::{empty, sample},
        goals::Judgement,
        summary::Summary,
    };
    use crate::results::{Latency, Run, Sample, Usage};

    fn page(samples: Vec<Sample>) -> Option<String> {
        let run = Run { samples, ..empty() };
        let summary = Summary::of(&run);
        markdown(&run, &summary, &Judgement::of(&summary))
    }

    fn by_command(case: &str, variant: &str, seconds: f64) -> Sample {
        let mut sample = sample(case, variant, 0, 100_000, seconds);
        sample.processes.insert("threadline".to_owned(), Usage { cpu_seconds: 0.25, peak_mib: 21.5 });
        sample
    }

    #[test]
    fn every_command_has_a_line_with_what_it_took() {
        let written = |variant: &str, p99| {
            let sample = sample("handover/writers beside a purge", variant, 0, 5_000, 5.0);
            Sample { latency: Some(Latency { p50: 1.0, p99 }), ..sample }
        };
        let page = page(vec![
            sample("handover/export csv", "copy", 0, 100_000, 1.0),
            by_command("handover/export csv", "threadline", 1.25),
            sample("handover/export csv", "library", 0, 100_000, 10.0),
            written("undisturbed", 4.0),
            written("purge", 5.0),
            by_command("handover/purge", "threadline", 20.0),
            sample("handover/partition drop", "drop of a month", 0, 500_000, 0.4),
            sample("handover/partition drop", "longest write beside it", 0, 1, 0.052),
            by_command("handover/receipts", "seal", 0.5),
        ])
        .expect("there are such cases");
        for line in [
            "| export csv | threadline | 80,000 | 0.25 s | 22 MiB | 0.80 | 0.12 |",
            "| export csv | library | 10,000 | - | - | - | - |",
            "| purge | 1,000 | 1.0 ms | 5.0 ms | 1.25 |",
            "| purge | 100,000 | 5,000 | 0.25 s | 22 MiB |",
            "| seal | 5,000 ms | 0.25 s | 22 MiB |",
            "| handover: export CSV, rate / copy | at least 0.6 | 0.80 | met | 1 repeat |",
            "| handover: seal, 1,000,000 changes | at most 10 s | 5.00 s | met |  |",
            "| drop of a month | 500,000 | 400 ms |",
            "| longest write beside it | - | 52.0 ms |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        assert!(!page.contains("Void samples"), "{page}");
    }

    #[test]
    fn a_void_sample_is_on_the_page_with_its_reason() {
        let mut void = by_command("handover/purge", "threadline", 20.0);
        void.void = Some("7 of 100 changes are left".to_owned());
        let page = page(vec![void]).expect("there are such cases");
        assert!(page.contains("| handover/purge | threadline | 0 | 7 of 100 changes are left |"), "{page}");
        assert!(page.contains("| purge | - | - | - | - |"), "{page}");
    }

    #[test]
    fn without_such_cases_there_is_no_page() {
        assert_eq!(page(Vec::new()), None);
    }
}
