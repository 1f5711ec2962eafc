//! Goals of exports, of a purge beside writers, and of receipts.

use super::summary::{Ratio, Summary};
use crate::{
    cases::hand_over::{
        BUNDLE, CASES, COPY, CSV, DISTURBED, LIBRARY, NDJSON, OURS, PURGE, QUARTER, RECEIPTS, SEAL,
        UNDISTURBED, VERIFY, VERIFY_BUNDLE,
    },
    results::Sample,
};

/// What the names of these goals begin with.
pub(super) const NAMES: &str = "handover: ";

/// Changes that a time is given for, however many there were.
const CHANGES: f64 = 1_000_000.0;

/// One of them.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) bound: f64,
    /// Whether less than the bound is what is not wanted.
    pub(super) is_least: bool,
    pub(super) measured: Measured,
    pub(super) note: String,
}

/// What is to be within the bound.
pub(super) enum Measured {
    Ratio(Option<Ratio>),
    Seconds(Option<f64>),
    Mib(Option<f64>),
}

/// All of them; none where nothing of it was measured.
pub(super) fn promises(summary: &Summary) -> Vec<Promise> {
    if !summary.cases().into_iter().any(is_of) {
        return Vec::new();
    }
    let exports = [(CSV, OURS), (CSV, QUARTER), (NDJSON, OURS), (NDJSON, QUARTER)];
    let receipts = [SEAL, BUNDLE, VERIFY_BUNDLE, VERIFY].map(|command| (RECEIPTS, command));
    let (growth, of) = growth(summary);
    vec![
        at_least("handover: export CSV, rate / copy", 0.6, beside_copy(summary, CSV)),
        at_least("handover: export NDJSON, rate / copy", 0.6, beside_copy(summary, NDJSON)),
        at_most("handover: export CSV, time / library", 0.3, Measured::Ratio(beside_library(summary))),
        peak(summary, "handover: exports, memory at the peak", &exports),
        Promise {
            note: of,
            ..at_most("handover: exports, memory / with a quarter", 1.2, Measured::Ratio(growth))
        },
        at_most(
            "handover: purge, writers' p99 / undisturbed",
            1.2,
            Measured::Ratio(beside_undisturbed(summary)),
        ),
        time(summary, "handover: seal, 1,000,000 changes", SEAL),
        time(summary, "handover: verify-bundle, 1,000,000 changes", VERIFY_BUNDLE),
        peak(summary, "handover: receipts, memory at the peak", &receipts),
    ]
}

/// Whether a case belongs to these.
pub(super) fn is_of(case: &str) -> bool {
    case.starts_with(CASES)
}

/// The rate of an export by that of the copy around it.
pub(super) fn beside_copy(summary: &Summary, case: &str) -> Option<Ratio> {
    summary.ratio(case, OURS, case, COPY)
}

/// The time of an export by that of the library's pages, of as many rows.
pub(super) fn beside_library(summary: &Summary) -> Option<Ratio> {
    summary.ratio_of((CSV, OURS), (CSV, LIBRARY), |sample| Some(sample.rate().recip()))
}

/// How long writers wait beside a purge, by how long they wait before it and behind it.
pub(super) fn beside_undisturbed(summary: &Summary) -> Option<Ratio> {
    summary.ratio_of((PURGE, DISTURBED), (PURGE, UNDISTURBED), |sample| {
        sample.latency.map(|latency| latency.p99)
    })
}

/// Seconds for a million changes, the median.
pub(super) fn seconds(summary: &Summary, case: &str, variant: &str) -> Option<f64> {
    Some(CHANGES / summary.group(case, variant)?.rate?)
}

/// The memory of the format that needs most, by that with fewer rows; and which format that is.
fn growth(summary: &Summary) -> (Option<Ratio>, String) {
    let peak = |sample: &Sample| Some(sample.processes.get(OURS)?.peak_mib);
    let of = |case| Some((summary.ratio_of((case, OURS), (case, QUARTER), peak)?, case));
    let worst = [CSV, NDJSON].into_iter().filter_map(of).max_by(|a, b| a.0.median.total_cmp(&b.0.median));
    worst.map_or((None, String::new()), |(ratio, case)| (Some(ratio), case[CASES.len()..].to_owned()))
}

fn time(summary: &Summary, name: &'static str, command: &str) -> Promise {
    at_most(name, 10.0, Measured::Seconds(seconds(summary, RECEIPTS, command)))
}

/// The most that the command has taken in any repeat, whether its rows count or not.
fn peak(summary: &Summary, name: &'static str, keys: &[(&str, &str)]) -> Promise {
    let samples = summary.samples.iter().filter(|sample| keys.contains(&(&sample.case, &sample.variant)));
    let peaks = samples.filter_map(|sample| Some((sample, sample.processes.get(OURS)?.peak_mib)));
    let most = peaks.max_by(|a, b| a.1.total_cmp(&b.1));
    let note = most.map(|(sample, _)| format!("in {}, {}", &sample.case[CASES.len()..], sample.variant));
    Promise {
        note: note.unwrap_or_default(),
        ..at_most(name, 32.0, Measured::Mib(most.map(|(_, peak)| peak)))
    }
}

fn at_least(name: &'static str, bound: f64, ratio: Option<Ratio>) -> Promise {
    Promise { name, bound, is_least: true, measured: Measured::Ratio(ratio), note: String::new() }
}

fn at_most(name: &'static str, bound: f64, measured: Measured) -> Promise {
    Promise { name, bound, is_least: false, measured, note: String::new() }
}

#[cfg(test)]
mod tests {
    use super::promises;
    use crate::report::{
        example::{empty, sample},
        goals::Judgement,
        summary::Summary,
    };
    use crate::results::{Latency, Run, Sample, Usage};

    fn taken(case: &str, variant: &str, seconds: f64, peak_mib: f64) -> Sample {
        let mut sample = sample(case, variant, 0, 500_000, seconds);
        sample.processes = [("threadline".to_owned(), Usage { cpu_seconds: 1.0, peak_mib })].into();
        sample
    }

    fn waited(variant: &str, p99: f64) -> Sample {
        let sample = sample("handover/writers beside a purge", variant, 0, 5_000, 5.0);
        Sample { latency: Some(Latency { p50: 1.0, p99 }), ..sample }
    }

    /// As the table of goals shows it: measured, met, note.
    fn judged(samples: Vec<Sample>, name: &str) -> (String, Option<bool>, String) {
        let run = Run { samples, ..empty() };
        let goals = Judgement::of(&Summary::of(&run)).goals;
        let goal = goals.into_iter().find(|goal| goal.name.contains(name)).expect("a goal of this name");
        (goal.measured, goal.met, goal.note)
    }

    fn expected(measured: &str, met: bool, note: &str) -> (String, Option<bool>, String) {
        (measured.to_owned(), Some(met), note.to_owned())
    }

    #[test]
    fn an_export_is_judged_by_the_copies_around_it() {
        let samples = |seconds| {
            vec![
                taken("handover/export csv", "copy", 5.0, 0.0),
                taken("handover/export csv", "threadline", seconds, 20.0),
                taken("handover/export csv", "copy again", 5.0, 0.0),
            ]
        };
        assert_eq!(judged(samples(8.0), "CSV, rate"), expected("0.62", true, "1 repeat"));
        assert_eq!(judged(samples(10.0), "CSV, rate"), expected("0.50", false, "1 repeat"));
        assert_eq!(judged(samples(8.0), "NDJSON, rate").1, None);
    }

    #[test]
    fn an_export_is_judged_by_its_time_beside_the_library() {
        let samples = |seconds| {
            vec![
                taken("handover/export csv", "threadline", seconds, 20.0),
                taken("handover/export csv", "library", 20.0, 0.0),
            ]
        };
        assert_eq!(judged(samples(5.0), "/ library"), expected("0.25", true, "1 repeat"));
        assert_eq!(judged(samples(8.0), "/ library"), expected("0.40", false, "1 repeat"));
    }

    #[test]
    fn memory_is_judged_by_its_peak_and_by_whether_it_grows() {
        let samples = |peak| {
            vec![
                taken("handover/export csv", "threadline", 5.0, 22.0),
                taken("handover/export csv", "threadline, a quarter of the rows", 5.0, 20.0),
                taken("handover/export ndjson", "threadline", 5.0, peak),
                taken("handover/export ndjson", "threadline, a quarter of the rows", 5.0, 20.0),
            ]
        };
        let (peak, growth) = ("exports, memory at", "memory / with");
        assert_eq!(judged(samples(24.0), peak), expected("24 MiB", true, "in export ndjson, threadline"));
        assert_eq!(judged(samples(24.0), growth), expected("1.20", true, "1 repeat; export ndjson"));
        assert_eq!(judged(samples(33.0), peak), expected("33 MiB", false, "in export ndjson, threadline"));
        assert_eq!(judged(samples(33.0), growth), expected("1.65", false, "1 repeat; export ndjson"));
    }

    #[test]
    fn writers_beside_a_purge_are_judged_by_those_before_and_behind_it() {
        let samples =
            |p99| vec![waited("undisturbed", 2.0), waited("purge", p99), waited("undisturbed again", 4.0)];
        assert_eq!(judged(samples(3.6), "purge"), expected("1.20", true, "1 repeat"));
        assert_eq!(judged(samples(4.5), "purge"), expected("1.50", false, "1 repeat"));
    }

    #[test]
    fn receipts_are_judged_by_the_time_of_a_million_changes() {
        let samples = |seconds| {
            vec![
                taken("handover/receipts", "seal", seconds, 20.0),
                taken("handover/receipts", "verify-bundle", 5.5, 40.0),
            ]
        };
        assert_eq!(judged(samples(4.0), "seal"), expected("8.00 s", true, ""));
        assert_eq!(judged(samples(5.1), "seal"), expected("10.2 s", false, ""));
        assert_eq!(judged(samples(4.0), "verify-bundle"), expected("11.0 s", false, ""));
        let note = "in receipts, verify-bundle";
        assert_eq!(judged(samples(4.0), "receipts, memory"), expected("40 MiB", false, note));
    }

    #[test]
    fn a_run_without_them_has_no_such_goals() {
        assert!(promises(&Summary::of(&empty())).is_empty());
    }
}
