//! Many samples, few numbers: medians over the repeats of a variant, and quotients of two variants.

use std::collections::BTreeMap;

use crate::results::{Run, Sample};

/// All variants of a run, in the order in which they first appear.
pub(crate) struct Summary<'a> {
    pub(crate) groups: Vec<Group<'a>>,
    /// Samples that do not count.
    pub(crate) voids: Vec<&'a Sample>,
    /// Every sample, void or not.
    pub(crate) samples: &'a [Sample],
}

/// One variant of one case.
pub(crate) struct Group<'a> {
    pub(crate) case: &'a str,
    pub(crate) variant: &'a str,
    /// Those that count.
    pub(crate) samples: Vec<&'a Sample>,
    /// How many do not.
    pub(crate) voids: usize,
    /// Rows a second.
    pub(crate) rate: Option<f64>,
    /// Of the rate, over several repeats: largest less smallest, by the median.
    pub(crate) spread: Option<f64>,
    /// Milliseconds.
    pub(crate) p50: Option<f64>,
    /// Milliseconds.
    pub(crate) p99: Option<f64>,
    /// By name.
    pub(crate) processes: BTreeMap<&'a str, Process>,
    pub(crate) wal_per_row: Option<f64>,
    /// The most of any repeat.
    pub(crate) dead_tuples: Option<u64>,
}

/// What a process of one name took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Process {
    /// Seconds of processor time for 100,000 rows, the median; none where no row arrived.
    pub(crate) cpu_per_100k: Option<f64>,
    /// The most of any repeat.
    pub(crate) peak_mib: f64,
}

/// A variant beside another, over the repeats that have both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// How many repeats have both.
    pub(crate) repeats: usize,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        // A variant of which every sample is void still has its place, empty, in the report.
        let mut order: Vec<(&str, &str)> = Vec::new();
        for sample in &run.samples {
            let key = (sample.case.as_str(), sample.variant.as_str());
            if !order.contains(&key) {
                order.push(key);
            }
        }
        let group = |(case, variant)| {
            let all = run.samples.iter().filter(|sample| sample.case == case && sample.variant == variant);
            let (voids, samples): (Vec<_>, Vec<_>) = all.partition(|sample| sample.void.is_some());
            Group::of(case, variant, samples, voids.len())
        };
        let voids = run.samples.iter().filter(|sample| sample.void.is_some()).collect();
        Self { groups: order.into_iter().map(group).collect(), voids, samples: &run.samples }
    }

    /// The names of the cases, in order.
    pub(crate) fn cases(&self) -> Vec<&'a str> {
        let mut cases: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !cases.contains(&group.case) {
                cases.push(group.case);
            }
        }
        cases
    }

    /// The variants of a case, in order.
    pub(crate) fn of_case<'s>(&'s self, case: &'s str) -> impl Iterator<Item = &'s Group<'a>> {
        self.groups.iter().filter(move |group| group.case == case)
    }

    pub(crate) fn group(&self, case: &str, variant: &str) -> Option<&Group<'a>> {
        self.groups.iter().find(|group| group.case == case && group.variant == variant)
    }

    /// The rate of a beside that of b.
    pub(crate) fn ratio(
        &self,
        case_a: &str,
        variant_a: &str,
        case_b: &str,
        variant_b: &str,
    ) -> Option<Ratio> {
        self.ratio_of((case_a, variant_a), (case_b, variant_b), |sample| Some(sample.rate()))
    }

    /// The quotient of anything, taken within each repeat before the median is: what slowed the machine down
    /// during a repeat slowed both, and cancels. Where b was measured again behind a, its mean counts: what
    /// drifted meanwhile cancels too.
    pub(crate) fn ratio_of(
        &self,
        a: (&str, &str),
        b: (&str, &str),
        of: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Ratio> {
        let again = format!("{} again", b.1);
        let enclosing = self.group(b.0, &again).filter(|group| !(group.case == a.0 && group.variant == a.1));
        let (a, b) = (self.group(a.0, a.1)?, self.group(b.0, b.1)?);
        let in_group =
            |group: &Group, repeat| of(group.samples.iter().find(|sample| sample.repeat == repeat)?);
        let in_b = |repeat| {
            let first = in_group(b, repeat)?;
            let second = enclosing.and_then(|group| in_group(group, repeat));
            Some(second.map_or(first, |second| f64::midpoint(first, second)))
        };
        let quotient = |sample: &&Sample| Some(of(sample)? / in_b(sample.repeat)?);
        Ratio::of(a.samples.iter().filter_map(quotient).filter(|quotient| quotient.is_finite()).collect())
    }

    /// The fewest and the most samples that a median is of.
    pub(crate) fn repeats(&self) -> (usize, usize) {
        let repeats = || self.groups.iter().map(|group| group.samples.len()).filter(|count| *count > 0);
        (repeats().min().unwrap_or(0), repeats().max().unwrap_or(0))
    }
}

impl<'a> Group<'a> {
    fn of(case: &'a str, variant: &'a str, samples: Vec<&'a Sample>, voids: usize) -> Self {
        let all =
            |of: &dyn Fn(&Sample) -> Option<f64>| samples.iter().filter_map(|sample| of(sample)).collect();
        let rates = Ratio::of(all(&|sample| Some(sample.rate())));
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 bytes")]
        let wal = |sample: &Sample| Some(sample.per_100k(sample.wal_bytes? as f64) / 100_000.0);
        Self {
            case,
            variant,
            voids,
            rate: rates.map(|rates| rates.median),
            spread: rates.and_then(Ratio::spread),
            p50: median(all(&|sample| Some(sample.latency?.p50))),
            p99: median(all(&|sample| Some(sample.latency?.p99))),
            processes: processes(&samples),
            wal_per_row: median(all(&wal)),
            dead_tuples: samples.iter().filter_map(|sample| sample.dead_tuples).max(),
            samples,
        }
    }
}

fn processes<'a>(samples: &[&'a Sample]) -> BTreeMap<&'a str, Process> {
    let names = samples.iter().flat_map(|sample| sample.processes.keys());
    let process = |name: &'a String| {
        let usages = || samples.iter().filter_map(|sample| Some((sample, sample.processes.get(name)?)));
        let cpu_per_100k =
            median(usages().map(|(sample, usage)| sample.per_100k(usage.cpu_seconds)).collect());
        let peak_mib = usages().map(|(_, usage)| usage.peak_mib).fold(0.0, f64::max);
        (name.as_str(), Process { cpu_per_100k, peak_mib })
    };
    names.map(process).collect()
}

impl Ratio {
    fn spread(self) -> Option<f64> {
        let spread = (self.most - self.least) / self.median;
        (self.repeats > 1 && spread.is_finite()).then_some(spread)
    }

    fn of(quotients: Vec<f64>) -> Option<Self> {
        let quotients: Vec<f64> = quotients.into_iter().filter(|quotient| quotient.is_finite()).collect();
        let least = quotients.iter().copied().reduce(f64::min)?;
        let most = quotients.iter().copied().reduce(f64::max)?;
        let repeats = quotients.len();
        Some(Self { median: median(quotients)?, least, most, repeats })
    }
}

/// The middle one, or halfway between the two in the middle. What is no number does not count: a rate over no
/// time, or seconds per row where no row arrived.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[values.len() / 2 - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::{Ratio, Summary, median};
    use crate::report::example::{empty, sample};

    #[test]
    fn the_median_skips_what_is_no_number() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![f64::NAN, f64::INFINITY]), None);
        assert_eq!(median(vec![3.0, f64::NAN, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn quotients_are_taken_within_a_repeat() {
        // The machine was half as fast during the second repeat: the quotient stays.
        let mut run = empty();
        run.samples = vec![
            sample("relay", "pipeline", 0, 900, 1.0),
            sample("relay", "limit", 0, 1_000, 1.0),
            sample("relay", "pipeline", 1, 450, 1.0),
            sample("relay", "limit", 1, 500, 1.0),
            sample("relay", "limit", 2, 100, 1.0),
        ];
        let expected = Ratio { median: 0.9, least: 0.9, most: 0.9, repeats: 2 };
        let summary = Summary::of(&run);
        assert_eq!(summary.ratio("relay", "pipeline", "relay", "limit"), Some(expected));
        assert_eq!(summary.ratio("relay", "pipeline", "relay", "absent"), None);
    }

    #[test]
    fn a_void_sample_is_listed_and_does_not_count() {
        let mut run = empty();
        let mut void = sample("relay", "pipeline", 1, 1, 1.0);
        void.void = Some("rows are missing".to_owned());
        run.samples = vec![sample("relay", "pipeline", 0, 900, 1.0), void];
        let summary = Summary::of(&run);
        let group = summary.group("relay", "pipeline").expect("it has a sample");
        assert_eq!((group.rate, group.samples.len(), group.voids), (Some(900.0), 1, 1));
        assert_eq!(summary.voids.len(), 1);
        assert_eq!(summary.repeats(), (1, 1));
    }

    #[test]
    fn nothing_arrived_is_a_rate_of_0_and_no_cost() {
        let mut run = empty();
        run.samples = vec![sample("held transaction", "skip locked, held", 0, 0, 5.0)];
        let summary = Summary::of(&run);
        let group = summary.group("held transaction", "skip locked, held").expect("it has a sample");
        assert_eq!((group.rate, group.spread, group.p50, group.wal_per_row), (Some(0.0), None, None, None));
        assert_eq!(group.processes["publisher"].cpu_per_100k, None);
    }
}
