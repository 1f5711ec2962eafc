//! The figures go to the recorder that the host has installed; without the feature `metrics`, nowhere.

#[cfg(feature = "metrics")]
pub use real::begin;
#[cfg(feature = "metrics")]
pub(super) use real::{count, measure, set, shift};

#[cfg(not(feature = "metrics"))]
pub(super) use none::{count, measure, set, shift};

/// Labels with their values: words of this program.
type Labels<'a> = &'a [(&'static str, &'static str)];

#[cfg(feature = "metrics")]
mod real {
    use std::time::Duration;

    use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

    use super::{
        super::names::{HOST, Kind, all, known},
        Labels,
    };

    pub(in super::super) fn count(name: &'static str, labels: Labels<'_>, by: u64) {
        counter!(name, labels).increment(by);
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of tables and findings")]
    pub(in super::super) fn set(name: &'static str, labels: Labels<'_>, to: usize) {
        gauge!(name, labels).set(to as f64);
    }

    pub(in super::super) fn shift(name: &'static str, labels: Labels<'_>, by: f64) {
        gauge!(name, labels).increment(by);
    }

    pub(in super::super) fn measure(name: &'static str, labels: Labels<'_>, took: Duration) {
        histogram!(name, labels).record(took.as_secs_f64());
    }

    /// Tells the recorder of the process what each figure means, and shows counters, and what is open, at zero, for all values of their labels:
    /// what looks at an increase sees the first. Called once, after the host has installed its recorder.
    pub fn begin() {
        for metric in all() {
            match metric.kind {
                Kind::Counter => describe_counter!(metric.name, metric.help),
                Kind::Gauge => describe_gauge!(metric.name, metric.help),
                Kind::Histogram => describe_histogram!(metric.name, metric.help),
            }
        }
        for metric in HOST {
            for labels in known(metric) {
                match metric.kind {
                    Kind::Counter => count(metric.name, &labels, 0),
                    Kind::Gauge => shift(metric.name, &labels, 0.0),
                    Kind::Histogram => {}
                }
            }
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod none {
    use std::time::Duration;

    use super::Labels;

    pub(in super::super) fn count(_: &'static str, _: Labels<'_>, _: u64) {}

    pub(in super::super) fn set(_: &'static str, _: Labels<'_>, _: usize) {}

    pub(in super::super) fn shift(_: &'static str, _: Labels<'_>, _: f64) {}

    pub(in super::super) fn measure(_: &'static str, _: Labels<'_>, _: Duration) {}
}
