//! `operators.md`: what it costs to look at a long timeline while others write into it.

use super::{
    goals::Judgement,
    hand_over_goals::{Measured, Promise},
    markdown::{GOAL_HEADER, goal_row, introduction, machine, table},
    number,
    summary::{Group, Ratio, Summary},
};
use crate::{
    cases::operators::{CASES, DISTURBED, OURS, PAGES, UNDISTURBED, WRITERS},
    results::Run,
};

/// What the names of these goals begin with.
const NAMES: &str = "operators: ";

const METHOD: &str = "\
A timeline of 1,000,000 changes, a tenth of it in the smoke form, in the service `threadline-serve` as it is shipped. 50 operators open a page each \
second: lists with and without a filter, their older pages, and histories of rows; 20 of them follow the timeline meanwhile. 8 connections insert \
1,000 captured rows a second, one in each transaction; they write alone before it and behind it. A page counts from when it was due to the last \
byte, over the loopback interface; all of it, servers and clients, shares the cores of one machine. \
";

/// Whether a case belongs to these.
pub(super) fn is_of(case: &str) -> bool {
    case.starts_with(CASES)
}

/// The goals; none where nothing of it was measured.
pub(super) fn promises(summary: &Summary) -> Vec<Promise> {
    if !summary.cases().into_iter().any(is_of) {
        return Vec::new();
    }
    let pages = summary.group(PAGES, OURS);
    let promise =
        |name, bound, measured| Promise { name, bound, is_least: false, measured, note: String::new() };
    vec![
        promise(
            "operators: pages, p99",
            0.15,
            Measured::Seconds(pages.and_then(|group| group.p99).map(|milliseconds| milliseconds / 1_000.0)),
        ),
        promise("operators: writers' p99 / undisturbed", 1.2, Measured::Ratio(beside_undisturbed(summary))),
        promise(
            "operators: memory at the peak",
            96.0,
            Measured::Mib(pages.and_then(|group| Some(group.processes.get(OURS)?.peak_mib))),
        ),
    ]
}

fn beside_undisturbed(summary: &Summary) -> Option<Ratio> {
    let p99 = |sample: &crate::results::Sample| sample.latency.map(|latency| latency.p99);
    summary.ratio_of((WRITERS, DISTURBED), (WRITERS, UNDISTURBED), p99)
}

/// Nothing where nothing of it was measured.
pub(super) fn markdown(run: &Run, summary: &Summary, judgement: &Judgement) -> Option<String> {
    summary.cases().into_iter().find(|case| is_of(case))?;
    let goals: Vec<_> =
        judgement.goals.iter().filter(|goal| goal.name.starts_with(NAMES)).map(goal_row).collect();
    let row = |group: &Group| {
        let beside = beside_undisturbed(summary).filter(|_| group.variant == DISTURBED);
        vec![
            group.case[CASES.len()..].to_owned(),
            group.variant.to_owned(),
            number::rate(group.rate),
            number::millis(group.p50),
            number::millis(group.p99),
            number::ratio(beside.map(|ratio| ratio.median)),
        ]
    };
    let rows: Vec<_> = [PAGES, WRITERS].into_iter().flat_map(|case| summary.of_case(case)).map(row).collect();
    let parts = [
        introduction("What operators cost who look at the timeline", run),
        machine(run),
        format!("## Method\n\n{METHOD}\n"),
        format!("## Goals\n\n{}", table(&GOAL_HEADER, 5, &goals)),
        format!(
            "## Pages and writers\n\n{}",
            table(&["case", "variant", "a second", "p50", "p99", "p99 / undisturbed"], 2, &rows)
        ),
    ];
    Some(parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::{markdown, promises};
    use crate::report::{
        example::{empty, sample},
        goals::Judgement,
        summary::Summary,
    };
    use crate::results::{Latency, Run, Sample, Usage};

    fn waited(case: &str, variant: &str, p99: f64) -> Sample {
        let mut sample = sample(case, variant, 0, 5_000, 5.0);
        sample.latency = Some(Latency { p50: 1.0, p99 });
        sample.processes =
            [("threadline-serve".to_owned(), Usage { cpu_seconds: 1.0, peak_mib: 48.0 })].into();
        sample
    }

    fn run(pages: f64, writers: f64) -> Run {
        let samples = vec![
            waited("operators/writers beside them", "undisturbed", 2.0),
            waited("operators/pages", "threadline-serve", pages),
            waited("operators/writers beside them", "operators", writers),
            waited("operators/writers beside them", "undisturbed again", 4.0),
        ];
        Run { samples, ..empty() }
    }

    #[test]
    fn pages_writers_and_memory_are_judged() {
        let met = |run: &Run| -> Vec<Option<bool>> {
            let goals = Judgement::of(&Summary::of(run)).goals;
            goals
                .into_iter()
                .filter(|goal| goal.name.starts_with("operators: "))
                .map(|goal| goal.met)
                .collect()
        };
        assert_eq!(met(&run(150.0, 3.6)), [Some(true); 3]);
        assert_eq!(met(&run(151.0, 3.7)), [Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn the_page_has_a_line_for_each() {
        let run = run(40.0, 3.0);
        let summary = Summary::of(&run);
        let page = markdown(&run, &summary, &Judgement::of(&summary)).expect("a page");
        for text in ["| pages | threadline-serve |", "| writers beside them | operators |", "48 MiB"] {
            assert!(page.contains(text), "{page}");
        }
    }

    #[test]
    fn a_run_without_them_has_no_such_goals() {
        let run = empty();
        let summary = Summary::of(&run);
        assert!(
            promises(&summary).is_empty() && markdown(&run, &summary, &Judgement::of(&summary)).is_none()
        );
    }
}
