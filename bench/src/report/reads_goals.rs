//! Goals of reads: each is about many of them, and the one that is worst says whether it is met.

use super::summary::{Group, Ratio, Summary};
use crate::{
    cases::reads::{CASES, DEEP, FIRST, LIBRARY, OURS, QUESTION, TAIL},
    results::Sample,
};

/// What the names of these goals begin with.
pub(super) const NAMES: &str = "reads: ";

/// Where the library takes longer than this, in milliseconds, we are to take a tenth.
const LONG: f64 = 5.0;

/// Such a goal, with what is furthest from it.
pub(super) struct Worst {
    pub(super) name: &'static str,
    pub(super) most: f64,
    pub(super) value: Option<f64>,
    pub(super) is_ratio: bool,
    /// Which one that was.
    pub(super) note: String,
}

/// All of them; none where no reads were measured.
pub(super) fn worst(summary: &Summary) -> Vec<Worst> {
    if !summary.cases().into_iter().any(is_of) {
        return Vec::new();
    }
    let pages = || in_cases(summary, &[FIRST, DEEP], OURS);
    let questions = || in_cases(summary, &[QUESTION], OURS);
    let beside = |is_long: bool| {
        let theirs = in_cases(summary, &[FIRST, DEEP, QUESTION], LIBRARY);
        let theirs = theirs.filter(move |group| group.p50.is_some_and(|p50| (p50 > LONG) == is_long));
        theirs.filter_map(|group| Some((group.case, beside_library(summary, group.case)?.median)))
    };
    let deep = in_cases(summary, &[DEEP], OURS)
        .filter_map(|group| Some((group.case, behind(summary, &group.case[DEEP.len()..])?.median)));
    let tail = summary.of_case(TAIL).next().and_then(|group| group.p50);
    vec![
        ratio("reads: deep page / first page, p50", 1.5, deep),
        millis("reads: pages, p99", 10.0, pages().filter_map(|group| Some((group.case, group.p99?)))),
        ratio("reads: p50 / library, where it takes over 5 ms", 0.1, beside(true)),
        ratio("reads: p50 / library, elsewhere", 1.0, beside(false)),
        millis("reads: questions, p99", 5.0, questions().filter_map(|group| Some((group.case, group.p99?)))),
        Worst {
            name: "reads: live tail, p50 from commit",
            most: 50.0,
            value: tail,
            is_ratio: false,
            note: String::new(),
        },
    ]
}

/// Whether a case belongs to these.
pub(super) fn is_of(case: &str) -> bool {
    case.starts_with(CASES)
}

/// Our reads beside the library's.
pub(super) fn beside_library(summary: &Summary, case: &str) -> Option<Ratio> {
    summary.ratio_of((case, OURS), (case, LIBRARY), p50)
}

/// The deep page of a filter beside its first one.
pub(super) fn behind(summary: &Summary, filter: &str) -> Option<Ratio> {
    let (deep, first) = (format!("{DEEP}{filter}"), format!("{FIRST}{filter}"));
    summary.ratio_of((&deep, OURS), (&first, OURS), p50)
}

fn p50(sample: &Sample) -> Option<f64> {
    sample.latency.map(|latency| latency.p50)
}

fn in_cases<'s, 'a>(
    summary: &'s Summary<'a>,
    cases: &'s [&'s str],
    variant: &'static str,
) -> impl Iterator<Item = &'s Group<'a>> + use<'s, 'a> {
    let groups = summary.groups.iter().filter(move |group| group.variant == variant);
    groups.filter(move |group| cases.iter().any(|case| group.case.starts_with(case)))
}

fn ratio<'c>(name: &'static str, most: f64, values: impl Iterator<Item = (&'c str, f64)>) -> Worst {
    Worst { is_ratio: true, ..millis(name, most, values) }
}

fn millis<'c>(name: &'static str, most: f64, values: impl Iterator<Item = (&'c str, f64)>) -> Worst {
    let values: Vec<(&str, f64)> = values.collect();
    let met = values.iter().filter(|(_, value)| *value <= most).count();
    let worst = values.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let note = worst.map(|(case, _)| format!("{}; {met} of {} meet it", &case[CASES.len()..], values.len()));
    Worst {
        name,
        most,
        value: worst.map(|(_, value)| *value),
        is_ratio: false,
        note: note.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Worst, worst};
    use crate::report::{
        example::{empty, sample},
        summary::Summary,
    };
    use crate::results::{Latency, Run, Sample};

    fn read(case: &str, variant: &str, p50: f64, p99: f64) -> Sample {
        Sample { latency: Some(Latency { p50, p99 }), ..sample(case, variant, 0, 200, 1.0) }
    }

    fn named(samples: Vec<Sample>, name: &str) -> Worst {
        let run = Run { samples, ..empty() };
        let found = worst(&Summary::of(&run)).into_iter().find(|worst| worst.name.contains(name));
        found.expect("a goal of this name")
    }

    #[test]
    fn the_worst_read_decides_and_is_named() {
        let samples = vec![
            read("reads/first page: unfiltered", "threadline", 2.0, 4.0),
            read("reads/deep page: unfiltered", "threadline", 3.0, 12.0),
            read("reads/first page: table:orders", "threadline", 2.0, 4.0),
            read("reads/deep page: table:orders", "threadline", 3.2, 5.0),
        ];
        let deep = named(samples.clone(), "deep page");
        assert_eq!((deep.value, deep.note.as_str()), (Some(1.6), "deep page: table:orders; 1 of 2 meet it"));
        let pages = named(samples, "pages");
        assert_eq!((pages.value, pages.note.as_str()), (Some(12.0), "deep page: unfiltered; 3 of 4 meet it"));
    }

    #[test]
    fn the_librarys_time_decides_which_ratio_is_asked_for() {
        let samples = vec![
            read("reads/question: correlation", "threadline", 2.0, 3.0),
            read("reads/question: correlation", "library", 100.0, 120.0),
            read("reads/question: as of a time", "threadline", 1.0, 3.0),
            read("reads/question: as of a time", "library", 2.0, 2.0),
        ];
        assert_eq!(named(samples.clone(), "over 5 ms").value, Some(0.02));
        assert_eq!(named(samples.clone(), "elsewhere").value, Some(0.5));
        assert_eq!(named(samples, "live tail").value, None);
    }

    #[test]
    fn a_run_without_reads_has_no_such_goals() {
        assert!(worst(&Summary::of(&empty())).is_empty());
    }
}
