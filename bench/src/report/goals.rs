//! What was promised, beside what was measured.

use super::{
    hand_over_goals::{self, Measured, Promise},
    number, operators, reads_goals,
    summary::{Group, Ratio, Summary},
};
use crate::{build::EARLIER, results::Sample};

const CAPTURE: &str = "capture/8 single";
const RELAY: &str = "relay";
const PROJECTION: &str = "projection";
pub(crate) const END_TO_END: &str = "end to end";
const HELD: &str = "held transaction";
const OPERATOR: &str = "operator";
pub(crate) const PIPELINE: &str = "pipeline";
const LIMIT: &str = "limit";
const BARE: &str = "bare";
/// What the name of a peer ends in that handles many rows at a time.
const BATCHES: &str = " (batches)";

/// All goals, and what the run says about its own noise.
pub(crate) struct Judgement {
    pub(crate) goals: Vec<Goal>,
    pub(crate) controls: Vec<Control>,
}

/// One promise.
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) target: String,
    pub(crate) measured: String,
    /// None: not measured in this run.
    pub(crate) met: Option<bool>,
    pub(crate) note: String,
    /// For a goal that the chart shows beside its limit.
    pub(crate) bar: Option<Bar>,
}

/// A quotient, where 1 is the limit.
pub(crate) struct Bar {
    /// What is beside its limit.
    pub(crate) who: String,
    pub(crate) ratio: Option<Ratio>,
    pub(crate) target: f64,
    /// The same quotient of something else, to compare with.
    pub(crate) beside: Vec<(String, Ratio)>,
}

/// The same thing measured twice: what differs is noise.
pub(crate) struct Control {
    pub(crate) name: &'static str,
    pub(crate) measured: String,
    pub(crate) note: String,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How a number is written, and what follows it in the target.
struct Unit(fn(Option<f64>) -> String, &'static str);

const RATIO: Unit = Unit(number::ratio, "");
const MILLIS: Unit = Unit(number::millis, " ms");
const MIB: Unit = Unit(|value| number::with("MiB", number::mib(value)), " MiB");
const SECONDS: Unit = Unit(|value| number::with("s", number::seconds(value)), " s");
const COUNT: Unit =
    Unit(|value| value.map_or_else(|| number::NONE.to_owned(), |value| format!("{value:.0}")), "");

impl Judgement {
    pub(crate) fn of(summary: &Summary) -> Self {
        let mut goals = vec![
            capture(summary),
            relay(summary),
            projection(summary),
            end_to_end(summary),
            peers(summary),
            batching_peer(summary),
            steady(summary, "1,000 rows/s: p50", "steady 1000", 3.0, |group| group.p50),
            steady(summary, "1,000 rows/s: p99", "steady 1000", 9.0, |group| group.p99),
            steady(summary, "5,000 rows/s: p99", "steady 5000", 60.0, |group| group.p99),
        ];
        goals.extend(earlier(summary));
        goals.extend(held(summary));
        goals.push(memory(summary, "publisher: memory at the peak", "publisher"));
        goals.push(memory(summary, "consumer: memory at the peak", "consumer"));
        goals.push(broker_memory(summary));
        goals.push(log_per_row(summary));
        goals.push(dead_tuples(summary));
        goals.extend(reads_goals::worst(summary).into_iter().map(Goal::of_worst));
        let promises = [hand_over_goals::promises(summary), operators::promises(summary)];
        goals.extend(promises.into_iter().flatten().map(Goal::of_promise));
        let controls = vec![
            control(summary, "A/A: capture, bare again / bare", CAPTURE, BARE),
            control(summary, "A/A: relay, limit again / limit", RELAY, LIMIT),
            control(summary, "A/A: projection, limit again / limit", PROJECTION, LIMIT),
        ];
        Self { goals, controls }
    }
}

fn capture(summary: &Summary) -> Goal {
    let of_bare = |variant| summary.ratio(CAPTURE, variant, CAPTURE, BARE);
    let notes = [voids(summary, &[(CAPTURE, "attached"), (CAPTURE, BARE)])];
    let name = "capture, 8 writers, single rows: attached / bare";
    let beside = ["notify", "statement trigger"].map(|variant| (variant.to_owned(), of_bare(variant)));
    Goal::of_ratio(name, "attached", Bound::AtLeast(0.95), of_bare("attached"), notes.into()).beside(beside)
}

fn relay(summary: &Summary) -> Goal {
    let notes = [voids(summary, &[(RELAY, PIPELINE), (RELAY, LIMIT)])];
    let ratio = summary.ratio(RELAY, PIPELINE, RELAY, LIMIT);
    let name = "relay: pipeline / limit, which is a message a row";
    Goal::of_ratio(name, PIPELINE, Bound::AtLeast(4.0), ratio, notes.into()).beside([again(summary, RELAY)])
}

fn projection(summary: &Summary) -> Goal {
    let of_limit = |variant| summary.ratio(PROJECTION, variant, PROJECTION, LIMIT);
    let several = ["2 consumers", "4 consumers"];
    let best = several
        .iter()
        .filter_map(|variant| Some((*variant, of_limit(variant)?)))
        .max_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let mut notes =
        vec![voids(summary, &[several[0], several[1], LIMIT].map(|variant| (PROJECTION, variant)))];
    notes.extend(best.map(|(variant, _)| variant.to_owned()));
    let others = ["1 consumer", several[0], several[1]].into_iter();
    let others = others.filter(|variant| best.is_none_or(|(best, _)| best != *variant));
    let beside =
        others.map(|variant| (variant.to_owned(), of_limit(variant))).chain([again(summary, PROJECTION)]);
    let name = "projection, 2 or more workers: best / limit";
    let who = best.map_or("workers", |(variant, _)| variant);
    Goal::of_ratio(name, who, Bound::AtLeast(0.85), best.map(|(_, ratio)| ratio), notes).beside(beside)
}

fn end_to_end(summary: &Summary) -> Goal {
    let notes = [voids(summary, &[(END_TO_END, PIPELINE), (PROJECTION, LIMIT)])];
    let ratio = summary.ratio(END_TO_END, PIPELINE, PROJECTION, LIMIT);
    let name = "end to end: pipeline / limit of the projection";
    Goal::of_ratio(name, PIPELINE, Bound::AtLeast(1.1), ratio, notes.into())
}

/// Beside the fastest of the peers that take a row at a time, as those do that a user would pick first.
fn peers(summary: &Summary) -> Goal {
    let name = "end to end: pipeline / best peer that does not batch";
    beside_peers(summary, name, 16.0, |peer| !peer.ends_with(BATCHES))
}

/// Beside a queue that is read many rows at a time.
fn batching_peer(summary: &Summary) -> Goal {
    let name = "end to end: pipeline / best peer that batches";
    beside_peers(summary, name, 1.5, |peer| peer.ends_with(BATCHES))
}

fn beside_peers(summary: &Summary, name: &'static str, least: f64, is_meant: fn(&str) -> bool) -> Goal {
    let peers = || {
        let peers = summary.of_case(END_TO_END).map(|group| group.variant);
        peers.filter(|variant| *variant != PIPELINE && !variant.starts_with(EARLIER) && is_meant(variant))
    };
    let best = peers()
        .filter_map(|peer| Some((peer, summary.ratio(END_TO_END, PIPELINE, END_TO_END, peer)?)))
        .min_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let keys: Vec<_> = peers().chain([PIPELINE]).map(|variant| (END_TO_END, variant)).collect();
    let mut notes = vec![voids(summary, &keys)];
    notes.extend(best.map(|(peer, _)| peer.to_owned()));
    Goal::of_ratio(name, PIPELINE, Bound::AtLeast(least), best.map(|(_, ratio)| ratio), notes)
}

/// Beside an earlier build of this project, where one was run.
fn earlier(summary: &Summary) -> Vec<Goal> {
    let ran = |case: &str| {
        let variants = summary.of_case(case).map(|group| group.variant.to_owned());
        variants.into_iter().find(|variant| variant.starts_with(EARLIER))
    };
    let Some(before) = [END_TO_END, "steady 1000"].into_iter().find_map(ran) else {
        return Vec::new();
    };
    let goal = |name, (case, variant): (&str, &str), least| {
        let earlier = if case == OPERATOR { format!("{variant}, {before}") } else { before.clone() };
        let ratio = summary.ratio(case, variant, case, &earlier);
        let notes = vec![voids(summary, &[(case, variant), (case, &earlier)])];
        Goal::of_ratio(name, variant, Bound::AtLeast(least), ratio, notes)
    };
    let cost = summary.ratio_of(("steady 1000", PIPELINE), ("steady 1000", &before), processor_time);
    vec![
        goal("end to end: pipeline / earlier build", (END_TO_END, PIPELINE), 2.5),
        goal("projection: 2 consumers / earlier build", (PROJECTION, "2 consumers"), 1.7),
        goal("rebuild / earlier build", (OPERATOR, "rebuild"), 2.5),
        Goal::of(
            "1,000 rows/s: processor time of publisher, consumer and nats-server / earlier build",
            Bound::AtMost(0.6),
            &RATIO,
            cost.map(|ratio| ratio.median),
            &[range(cost)],
        ),
    ]
}

/// Seconds for a row.
fn processor_time(sample: &Sample) -> Option<f64> {
    let of = |process| Some(sample.processes.get(process)?.cpu_seconds);
    Some(sample.per_100k(of("publisher")? + of("consumer")? + of("nats-server")?))
}

fn steady(
    summary: &Summary,
    name: &'static str,
    case: &str,
    most: f64,
    of: impl Fn(&Group) -> Option<f64>,
) -> Goal {
    let group = summary.group(case, PIPELINE);
    // Rows that never arrive are late, not unmeasured.
    let latency = |group| of(group).or_else(|| (group.rate == Some(0.0)).then_some(f64::INFINITY));
    let arrived = group.filter(|group| group.rate.is_some()).map(|group| {
        let repeats = number::times(group.samples.len(), "repeat");
        format!("{} rows/s arrived, {repeats}", number::rate(group.rate))
    });
    let notes = [arrived.unwrap_or_default(), voids(summary, &[(case, PIPELINE)])];
    Goal::of(name, Bound::AtMost(most), &MILLIS, group.and_then(latency), &notes)
}

/// A transaction that stays open beside the writers must not stop the rows of those that commit.
fn held(summary: &Summary) -> [Goal; 2] {
    let keys = |who: &str| (format!("{who}, held"), format!("{who}, free"));
    let rate = |who: &str| {
        let (held, free) = keys(who);
        summary.ratio(HELD, &held, HELD, &free)
    };
    let p50 = |who: &str| {
        let (held, free) = keys(who);
        summary.ratio_of((HELD, &free), (HELD, &held), median_latency)
    };
    let (held, free) = keys(PIPELINE);
    let notes = || vec![voids(summary, &[(HELD, &held), (HELD, &free)])];
    let beside = |of: &dyn Fn(&str) -> Option<Ratio>| {
        ["fenced reader", "skip locked"].map(|who| (who.to_owned(), of(who)))
    };
    let bound = Bound::AtLeast(0.95);
    [
        Goal::of_ratio("held transaction: rate held / free", PIPELINE, bound, rate(PIPELINE), notes())
            .beside(beside(&rate)),
        Goal::of_ratio("held transaction: p50 free / held", PIPELINE, bound, p50(PIPELINE), notes())
            .beside(beside(&p50)),
    ]
}

/// Where no row arrived, for ever.
fn median_latency(sample: &Sample) -> Option<f64> {
    let never = (sample.rows == 0).then_some(f64::INFINITY);
    sample.latency.map(|latency| latency.p50).or(never)
}

fn memory(summary: &Summary, name: &'static str, process: &str) -> Goal {
    let own = summary.samples.iter().filter(|sample| !sample.variant.contains(EARLIER));
    let peaks = own.filter_map(|sample| Some((sample, sample.processes.get(process)?.peak_mib)));
    let most = peaks.max_by(|a, b| a.1.total_cmp(&b.1));
    let note = most.map(|(sample, _)| format!("in {}, {}", sample.case, sample.variant));
    Goal::of(name, Bound::AtMost(48.0), &MIB, most.map(|(_, peak)| peak), &[note.unwrap_or_default()])
}

/// Of a broker that was started for the sample.
fn broker_memory(summary: &Summary) -> Goal {
    let peak =
        summary.group(RELAY, PIPELINE).and_then(|group| Some(group.processes.get("nats-server")?.peak_mib));
    let name = "nats-server after all references: memory at the peak";
    Goal::of(name, Bound::AtMost(64.0), &MIB, peak, &[voids(summary, &[(RELAY, PIPELINE)])])
}

fn log_per_row(summary: &Summary) -> Goal {
    let key = (PROJECTION, "2 consumers");
    let bytes = summary.group(key.0, key.1).and_then(|group| group.wal_per_row);
    let name = "projection: bytes of PostgreSQL's log a row";
    Goal::of(name, Bound::AtMost(750.0), &COUNT, bytes, &[voids(summary, &[key])])
}

fn dead_tuples(summary: &Summary) -> Goal {
    let keys = [(RELAY, PIPELINE), (END_TO_END, PIPELINE)];
    let most = keys.iter().filter_map(|(case, variant)| summary.group(case, variant)?.dead_tuples).max();
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 tuples")]
    let most = most.map(|most| most as f64);
    let name = "outbox after a drain: dead tuples before prune";
    Goal::of(name, Bound::AtMost(0.0), &COUNT, most, &[voids(summary, &keys)])
}

fn control(summary: &Summary, name: &'static str, case: &str, limit: &str) -> Control {
    let again = format!("{limit} again");
    let ratio = summary.ratio(case, &again, case, limit);
    let notes = [range(ratio), voids(summary, &[(case, &again), (case, limit)])];
    Control { name, measured: number::ratio(ratio.map(|ratio| ratio.median)), note: joined(&notes) }
}

fn again(summary: &Summary, case: &str) -> (String, Option<Ratio>) {
    ("limit again (A/A)".to_owned(), summary.ratio(case, "limit again", case, LIMIT))
}

fn voids(summary: &Summary, keys: &[(&str, &str)]) -> String {
    let groups = keys.iter().filter_map(|(case, variant)| summary.group(case, variant));
    match groups.map(|group| group.voids).sum() {
        0 => String::new(),
        count => format!("without {}", number::times(count, "void sample")),
    }
}

fn range(ratio: Option<Ratio>) -> String {
    match ratio {
        None => String::new(),
        Some(ratio) if ratio.repeats == 1 => "1 repeat".to_owned(),
        Some(Ratio { least, most, repeats, .. }) => {
            format!("{} to {} in {repeats} repeats", number::ratio(Some(least)), number::ratio(Some(most)))
        }
    }
}

fn joined(notes: &[String]) -> String {
    notes.iter().filter(|note| !note.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ")
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn limit(self) -> f64 {
        let (Self::AtLeast(limit) | Self::AtMost(limit)) = self;
        limit
    }
}

impl Goal {
    fn of(name: &'static str, bound: Bound, unit: &Unit, value: Option<f64>, notes: &[String]) -> Self {
        let target = match bound {
            Bound::AtLeast(least) => format!("at least {least}{}", unit.1),
            Bound::AtMost(0.0) => format!("0{}", unit.1),
            Bound::AtMost(most) => format!("at most {most}{}", unit.1),
        };
        let met = value.map(|value| bound.holds(value));
        let measured = match value {
            None => number::NONE.to_owned(),
            Some(value) => shown(value, bound, unit),
        };
        Self { name, target, measured, met, note: joined(notes), bar: None }
    }

    fn of_worst(worst: reads_goals::Worst) -> Self {
        let unit = if worst.is_ratio { &RATIO } else { &MILLIS };
        Self::of(worst.name, Bound::AtMost(worst.most), unit, worst.value, &[worst.note])
    }

    fn of_promise(promise: Promise) -> Self {
        let Promise { name, bound, is_least, measured, note } = promise;
        let bound = if is_least { Bound::AtLeast(bound) } else { Bound::AtMost(bound) };
        let (unit, value, range) = match measured {
            Measured::Ratio(ratio) => (&RATIO, ratio.map(|ratio| ratio.median), range(ratio)),
            Measured::Seconds(seconds) => (&SECONDS, seconds, String::new()),
            Measured::Mib(mib) => (&MIB, mib, String::new()),
        };
        Self::of(name, bound, unit, value, &[range, note])
    }

    /// The range comes before what is void, which comes first in the notes and last in the text.
    fn of_ratio(
        name: &'static str,
        who: &str,
        bound: Bound,
        ratio: Option<Ratio>,
        mut notes: Vec<String>,
    ) -> Self {
        notes.push(range(ratio));
        notes.rotate_left(1);
        let goal = Self::of(name, bound, &RATIO, ratio.map(|ratio| ratio.median), &notes);
        let bar = Bar { who: who.to_owned(), ratio, target: bound.limit(), beside: Vec::new() };
        Self { bar: Some(bar), ..goal }
    }

    fn beside(mut self, beside: impl IntoIterator<Item = (String, Option<Ratio>)>) -> Self {
        if let Some(bar) = &mut self.bar {
            bar.beside.extend(beside.into_iter().filter_map(|(name, ratio)| Some((name, ratio?))));
        }
        self
    }
}

/// With more digits where rounding would make a missed goal look like one that is met.
fn shown(value: f64, bound: Bound, unit: &Unit) -> String {
    let Unit(form, suffix) = unit;
    let text = form(Some(value));
    if bound.holds(value) || text != form(Some(bound.limit())) {
        return text;
    }
    let digits =
        (2..=9).find(|digits| !bound.holds((value * 10_f64.powi(*digits)).round() / 10_f64.powi(*digits)));
    let digits = usize::try_from(digits.unwrap_or(9)).unwrap_or(9);
    format!("{value:.digits$}{suffix}")
}

#[cfg(test)]
#[path = "goals_tests.rs"]
mod tests;
