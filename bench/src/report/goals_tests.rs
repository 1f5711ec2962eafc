//! What is assessed how.

use super::{Bound, COUNT, Judgement, MIB, MILLIS, RATIO, shown};
use crate::{
    report::{
        example::{empty, sample},
        summary::Summary,
    },
    results::{Latency, Sample},
};

/// The first goal whose name begins so.
fn assessed(samples: Vec<Sample>, name: &str) -> (String, Option<bool>, String) {
    let mut run = empty();
    run.samples = samples;
    let judgement = Judgement::of(&Summary::of(&run));
    let goal =
        judgement.goals.into_iter().find(|goal| goal.name.starts_with(name)).expect("a goal of this name");
    (goal.measured, goal.met, goal.note)
}

fn steady(case: &str, p50: f64, p99: f64) -> Sample {
    Sample { latency: Some(Latency { p50, p99 }), ..sample(case, "pipeline", 0, 1_000, 1.0) }
}

fn held(variant: &str, rows: u32, p50: Option<f64>) -> Sample {
    let latency = p50.map(|p50| Latency { p50, p99: 2.0 * p50 });
    Sample { latency, ..sample("held transaction", variant, 0, rows, 10.0) }
}

/// The case of a, the variant of a, the case of b, the variant of b, and the goal.
const RATIOS: [(&str, &str, &str, &str, &str, u32); 5] = [
    ("capture/8 single", "attached", "capture/8 single", "bare", "capture", 950),
    ("relay", "pipeline", "relay", "limit", "relay", 850),
    ("projection", "4 consumers", "projection", "limit", "projection", 850),
    ("end to end", "pipeline", "projection", "limit", "end to end: pipeline / limit", 600),
    ("end to end", "pipeline", "end to end", "awa 0.6.9", "end to end: pipeline / best", 10_000),
];

#[test]
fn a_ratio_is_met_at_its_limit_and_above() {
    for (case_a, variant_a, case_b, variant_b, name, limit) in RATIOS {
        for (rows, met) in [(limit - 1, false), (limit, true), (limit + 1, true)] {
            let samples =
                vec![sample(case_a, variant_a, 0, rows, 1.0), sample(case_b, variant_b, 0, 1_000, 1.0)];
            assert_eq!(assessed(samples, name).1, Some(met), "{name}, {rows}");
        }
        let alone = vec![sample(case_a, variant_a, 0, limit, 1.0)];
        assert_eq!(assessed(alone, name), ("-".to_owned(), None, String::new()), "{name}, alone");
    }
}

#[test]
fn a_latency_is_met_at_its_limit_and_below() {
    let cases = [
        ("1,000 rows/s: p50", "steady 1000", 5.0, 15.0, true),
        ("1,000 rows/s: p50", "steady 1000", 5.001, 15.0, false),
        ("1,000 rows/s: p99", "steady 1000", 5.0, 15.0, true),
        ("1,000 rows/s: p99", "steady 1000", 5.0, 15.001, false),
        ("5,000 rows/s: p99", "steady 5000", 99.0, 60.0, true),
        ("5,000 rows/s: p99", "steady 5000", 99.0, 60.1, false),
    ];
    for (name, case, p50, p99, met) in cases {
        assert_eq!(assessed(vec![steady(case, p50, p99)], name).1, Some(met), "{name}, {p50}, {p99}");
        assert_eq!(assessed(vec![], name).1, None);
    }
}

#[test]
fn rows_that_never_arrive_are_late() {
    let stalled = sample("steady 5000", "pipeline", 0, 0, 30.0);
    let (measured, met, note) = assessed(vec![stalled], "5,000 rows/s");
    assert_eq!((measured.as_str(), met, note.as_str()), ("-", Some(false), "0 rows/s arrived, 1 repeat"));
}

#[test]
fn a_held_transaction_is_judged_by_rate_and_latency() {
    let (rate, p50) = ("held transaction: rate", "held transaction: p50");
    let free = || held("pipeline, free", 10_000, Some(3.8));
    let cases = [
        (vec![free(), held("pipeline, held", 9_500, Some(4.0))], Some(true), Some(true)),
        (vec![free(), held("pipeline, held", 9_499, Some(4.0))], Some(false), Some(true)),
        (vec![free(), held("pipeline, held", 9_500, Some(4.1))], Some(true), Some(false)),
        // Nothing arrived: for ever late.
        (vec![free(), held("pipeline, held", 0, None)], Some(false), Some(false)),
        (vec![free()], None, None),
    ];
    for (samples, by_rate, by_p50) in cases {
        let both_assessed = (assessed(samples.clone(), rate).1, assessed(samples.clone(), p50).1);
        assert_eq!(both_assessed, (by_rate, by_p50), "{samples:?}");
    }
}

#[test]
fn memory_is_the_most_of_any_sample() {
    let with = |peak: f64| {
        let mut sample = sample("relay", "pipeline", 0, 1_000, 1.0);
        sample.processes.get_mut("publisher").expect("samples have one").peak_mib = peak;
        sample
    };
    assert_eq!(assessed(vec![with(64.0), with(3.0)], "publisher").1, Some(true));
    let void = Sample { void: Some("rows are missing".to_owned()), ..with(64.1) };
    let (measured, met, note) = assessed(vec![void, with(3.0)], "publisher");
    assert_eq!((measured.as_str(), met, note.as_str()), ("64.10 MiB", Some(false), "in relay, pipeline"));
    assert_eq!(assessed(vec![with(3.0)], "consumer").1, None);
}

#[test]
fn a_single_dead_tuple_is_one_too_many() {
    let with = |dead| Sample { dead_tuples: Some(dead), ..sample("end to end", "pipeline", 0, 1, 1.0) };
    assert_eq!(assessed(vec![with(0), with(0)], "outbox").1, Some(true));
    assert_eq!(assessed(vec![with(0), with(1)], "outbox").1, Some(false));
    assert_eq!(assessed(vec![sample("relay", "pipeline", 0, 1, 1.0)], "outbox").1, None);
}

#[test]
fn the_best_peer_is_the_fastest_that_does_not_batch() {
    let samples = [("pipeline", 1_000), ("slow", 10), ("fast", 100), ("faster (batches)", 900)];
    let samples = samples.map(|(variant, rows)| sample("end to end", variant, 0, rows, 1.0));
    let (measured, met, note) = assessed(samples.to_vec(), "end to end: pipeline / best");
    assert_eq!((measured.as_str(), met, note.as_str()), ("10.0", Some(true), "fast; 1 repeat"));
}

#[test]
fn the_best_number_of_workers_counts_and_a_single_one_does_not() {
    let samples = [("1 consumer", 990), ("2 consumers", 840), ("4 consumers", 860), ("limit", 1_000)];
    let samples = samples.map(|(variant, rows)| sample("projection", variant, 0, rows, 1.0));
    let (measured, met, note) = assessed(samples.to_vec(), "projection");
    assert_eq!((measured.as_str(), met, note.as_str()), ("0.86", Some(true), "4 consumers; 1 repeat"));
    assert_eq!(assessed(vec![samples[0].clone(), samples[3].clone()], "projection").1, None);
}

#[test]
fn what_is_void_does_not_meet_a_goal() {
    let void = Sample { void: Some("differs".to_owned()), ..sample("relay", "pipeline", 0, 2_000, 1.0) };
    let assessed = assessed(vec![void, sample("relay", "limit", 0, 1_000, 1.0)], "relay");
    assert_eq!(assessed, ("-".to_owned(), None, "without 1 void sample".to_owned()));
}

#[test]
fn the_noise_of_the_run_is_beside_the_goals() {
    let mut run = empty();
    for (repeat, rows) in [(0, 990), (1, 1_030)] {
        run.samples.push(sample("relay", "limit", repeat, 1_000, 1.0));
        run.samples.push(sample("relay", "limit again", repeat, rows, 1.0));
    }
    let controls = Judgement::of(&Summary::of(&run)).controls;
    let measured: Vec<_> = controls.iter().map(|it| (it.measured.as_str(), it.note.as_str())).collect();
    assert_eq!(measured, [("-", ""), ("1.01", "0.99 to 1.03 in 2 repeats"), ("-", "")]);
}

#[test]
fn rounding_hides_no_missed_goal() {
    let cases = [
        (0.8496, Bound::AtLeast(0.85), RATIO, "0.8496"),
        (0.8512, Bound::AtLeast(0.85), RATIO, "0.85"),
        (0.8, Bound::AtLeast(0.85), RATIO, "0.80"),
        (60.04, Bound::AtMost(60.0), MILLIS, "60.04 ms"),
        (64.2, Bound::AtMost(64.0), MIB, "64.20 MiB"),
        (3.0, Bound::AtMost(0.0), COUNT, "3"),
    ];
    for (value, bound, unit, expected) in cases {
        assert_eq!(shown(value, bound, &unit), expected);
    }
}
