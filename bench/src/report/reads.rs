//! `reads.md`: what it costs to read a timeline.

use super::{
    goals::Judgement,
    markdown::{GOAL_HEADER, goal_row, introduction, machine, table},
    number,
    reads_goals::{NAMES, behind, beside_library},
    summary::{Group, Summary},
};
use crate::{
    cases::reads::{AFTER, BEFORE, DEEP, FIRST, LIBRARY, OURS, QUESTION, TAIL, WRITES},
    results::{Run, Sample},
};

pub(super) use super::reads_goals::is_of;

const METHOD: &str = "\
The same rows, skewed as those of applications are, in two databases of one server: 1,000,000 changes in 300,000 transactions and \
200,000 actions in the full form, a tenth of each in the smoke form. One has the tables that `threadline install` makes; the other \
those of the Elixir library with exactly the indexes that it makes. Both are vacuumed, analysed and warm.

- **threadline**: `Reader` of the crate, one connection, a release build. The time is that of the call: all of its statements, and \
the entries with their transactions and actions.
- **library**: the statements that the library's functions make, written for this comparison, prepared once as its driver does, and \
their rows decoded. Its timeline holds changes alone, where ours has actions and events too, and loads no action with a change. By \
correlation id it finds changes whose transaction is linked to such an action; ours finds those of the transaction's own id too.

Ours and the library's are read in turns, 200 of each with values that vary where there are any (*…*); of the library's that take \
long, as many as fit into ten seconds (two in the smoke form), and five at least. A page has 50 entries. The deep page is the 1,000th \
in the full form and the 100th in the smoke form, or one of the 20 from there on; filters with fewer pages have none. Where no index \
leads to what a filter asks for, a page of ours ends when 2,000 rows were visited, and says how far it came.
";

const WRITERS: &str = "\
Columns and indexes that are there for reading are paid for by whoever writes. *Before* is a database with the migrations up to 0018, \
*after* one with all of them; both hold the rows that were read. They are written to in turns, by one connection each. Processor time \
is that of the session's own process: that of the server's writers is not part of it.
";

/// Nothing where no reads were measured.
pub(super) fn markdown(run: &Run, summary: &Summary, judgement: &Judgement) -> Option<String> {
    summary.cases().into_iter().find(|case| is_of(case))?;
    let goals: Vec<_> =
        judgement.goals.iter().filter(|goal| goal.name.starts_with(NAMES)).map(goal_row).collect();
    let parts = [
        introduction("What reads cost", run),
        machine(run),
        format!("## Method\n\n{METHOD}"),
        format!("## Goals\n\nThe worst of all decides.\n\n{}", table(&GOAL_HEADER, 5, &goals)),
        format!("## Pages of the timeline\n\n{}", pages(summary)),
        format!("## Questions\n\n{}", questions(summary)),
        format!("## Live tail\n\nFrom the return of a commit to the entry.\n\n{}", tail(summary)),
        format!("## What writers pay\n\n{WRITERS}\n{}", writes(summary)),
    ];
    Some(parts.join("\n"))
}

/// Reads of a case: ours, the library's, and both beside each other.
fn cells(summary: &Summary, case: &str) -> Vec<String> {
    let (ours, library) = (summary.group(case, OURS), summary.group(case, LIBRARY));
    let of = |group: Option<&Group>, of: fn(&Group) -> Option<f64>| number::millis(group.and_then(of));
    vec![
        of(ours, |group| group.p50),
        of(ours, |group| group.p99),
        of(library, |group| group.p50),
        of(library, |group| group.p99),
        number::ratio(beside_library(summary, case).map(|ratio| ratio.median)),
    ]
}

const CELLS: [&str; 5] = ["p50", "p99", "library p50", "library p99", "/ library"];

fn pages(summary: &Summary) -> String {
    let mut rows = Vec::new();
    for case in summary.cases() {
        let Some(filter) = case.strip_prefix(FIRST) else { continue };
        let deep = format!("{DEEP}{filter}");
        let mut row = vec![format!("`{filter}`"), "first".to_owned()];
        row.extend(cells(summary, case));
        row.push(String::new());
        rows.push(row);
        if summary.group(&deep, OURS).is_some() {
            let mut row = vec![String::new(), "deep".to_owned()];
            row.extend(cells(summary, &deep));
            row.push(number::ratio(behind(summary, filter).map(|ratio| ratio.median)));
            rows.push(row);
        }
    }
    let header: Vec<&str> = ["filter", "page"].into_iter().chain(CELLS).chain(["deep / first"]).collect();
    table(&header, 2, &rows)
}

fn questions(summary: &Summary) -> String {
    let row = |case: &str| {
        let question = case.strip_prefix(QUESTION)?.to_owned();
        Some(std::iter::once(question).chain(cells(summary, case)).collect())
    };
    let rows: Vec<Vec<String>> = summary.cases().into_iter().filter_map(row).collect();
    let header: Vec<&str> = std::iter::once("question").chain(CELLS).collect();
    table(&header, 1, &rows)
}

fn tail(summary: &Summary) -> String {
    let row = |group: &Group| {
        let name = group.variant.to_owned();
        vec![name, number::rate(group.rate), number::millis(group.p50), number::millis(group.p99)]
    };
    let rows: Vec<_> = summary.of_case(TAIL).map(row).collect();
    table(&["written", "entries/s", "p50", "p99"], 1, &rows)
}

fn writes(summary: &Summary) -> String {
    let mut rows = Vec::new();
    for case in summary.cases() {
        let Some(name) = case.strip_prefix(WRITES) else { continue };
        let of = |variant: &str| summary.group(case, variant);
        let cpu = |variant: &str| number::rate(of(variant).and_then(microseconds));
        let p50 = |variant: &str| number::millis(of(variant).and_then(|group| group.p50));
        let ratio = |of: fn(&Sample) -> Option<f64>| {
            let ratio = summary.ratio_of((case, AFTER), (case, BEFORE), of);
            number::ratio(ratio.map(|ratio| ratio.median))
        };
        rows.push(vec![
            name.to_owned(),
            cpu(BEFORE),
            cpu(AFTER),
            ratio(|sample| Some(sample.per_100k(sample.processes.get("postgres")?.cpu_seconds))),
            p50(BEFORE),
            p50(AFTER),
            ratio(|sample| Some(sample.latency?.p50)),
        ]);
    }
    let header = [
        "statement",
        "before, µs/row",
        "after, µs/row",
        "after / before",
        "before, p50",
        "after, p50",
        "after / before",
    ];
    table(&header, 1, &rows)
}

/// Of processor time, a row.
fn microseconds(group: &Group) -> Option<f64> {
    group.processes.get("postgres")?.cpu_per_100k.map(|seconds| seconds * 10.0)
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

    fn read(case: &str, variant: &str, p50: f64) -> Sample {
        Sample { latency: Some(Latency { p50, p99: 2.0 * p50 }), ..sample(case, variant, 0, 200, 1.0) }
    }

    fn page(samples: Vec<Sample>) -> Option<String> {
        let run = Run { samples, ..empty() };
        let summary = Summary::of(&run);
        markdown(&run, &summary, &Judgement::of(&summary))
    }

    #[test]
    fn a_filter_has_a_line_for_each_of_its_pages() {
        let page = page(vec![
            read("reads/first page: kind:change", "threadline", 2.0),
            read("reads/first page: kind:change", "library", 1.0),
            read("reads/deep page: kind:change", "threadline", 2.5),
        ])
        .expect("there are such cases");
        assert!(
            page.contains("| `kind:change` | first | 2.0 ms | 4.0 ms | 1.0 ms | 2.0 ms | 2.00 |  |"),
            "{page}"
        );
        assert!(page.contains("|  | deep | 2.5 ms | 5.0 ms | - | - | - | 1.25 |"), "{page}");
        assert!(
            page.contains("| reads: p50 / library, elsewhere | at most 1 | 2.00 | **NOT MET** |"),
            "{page}"
        );
    }

    #[test]
    fn writes_are_compared_by_what_a_row_takes() {
        let written = |variant: &str, seconds: f64| {
            let mut sample = read("reads/writes: batch", variant, 10.0 * seconds);
            sample.processes.insert("postgres".to_owned(), Usage { cpu_seconds: seconds, peak_mib: 1.0 });
            sample
        };
        let page =
            page(vec![written("before", 0.01), written("after", 0.012)]).expect("there are such cases");
        assert!(page.contains("| batch | 50.0 | 60.0 | 1.20 | 0.10 ms | 0.12 ms | 1.20 |"), "{page}");
    }

    #[test]
    fn without_such_cases_there_is_no_page() {
        assert_eq!(page(Vec::new()), None);
    }
}
