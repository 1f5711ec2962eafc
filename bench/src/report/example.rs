//! A small run for the tests: most goals are met, one is not, one is not measured, one sample is void.

use std::collections::BTreeMap;

use crate::results::{Latency, Machine, Run, Sample, Usage};

/// Without samples.
pub(crate) fn empty() -> Run {
    let machine = Machine {
        processor: "Example 3000 | 2 cores".to_owned(),
        cores: 2,
        memory_gib: 7.75,
        system: "Linux 6.1".to_owned(),
        postgres: "15.20".to_owned(),
        nats: "2.9.10".to_owned(),
        flushes_per_second: 1_234.4,
        revision: "0123abc, clean".to_owned(),
    };
    Run {
        form: "smoke".to_owned(),
        begun: "2026-01-02T03:04:05Z".to_owned(),
        took: 754.0,
        machine,
        samples: vec![],
    }
}

/// With a publisher that took 0.4 s of processor time for 100,000 rows, and 20 MiB.
pub(crate) fn sample(case: &str, variant: &str, repeat: u32, rows: u32, seconds: f64) -> Sample {
    let usage = Usage { cpu_seconds: f64::from(rows) * 4e-6, peak_mib: 20.0 };
    Sample {
        case: case.to_owned(),
        variant: variant.to_owned(),
        repeat,
        rows: u64::from(rows),
        seconds,
        processes: BTreeMap::from([("publisher".to_owned(), usage)]),
        ..Sample::default()
    }
}

fn with_latency(sample: Sample, p50: f64, p99: f64) -> Sample {
    Sample { latency: Some(Latency { p50, p99 }), ..sample }
}

fn with_tables(sample: Sample, wal_per_row: u64, dead: u64) -> Sample {
    Sample { wal_bytes: Some(sample.rows * wal_per_row), dead_tuples: Some(dead), ..sample }
}

fn with_process(mut sample: Sample, name: &str, cpu_seconds: f64, peak_mib: f64) -> Sample {
    sample.processes.insert(name.to_owned(), Usage { cpu_seconds, peak_mib });
    sample
}

/// A peer is a process of its own.
fn peer(variant: &str, rows: u32, seconds: f64) -> Sample {
    let mut sample = sample("end to end", variant, 0, rows, seconds);
    sample.processes.clear();
    with_process(sample, variant, 2.5, 88.0)
}

/// All forms of the report are compared with what they are for this run.
pub(crate) fn run() -> Run {
    let mut run = empty();
    for (repeat, slow) in [(0, 1.0), (1, 1.25), (2, 1.0)] {
        run.samples.extend([
            sample("capture/8 single", "bare", repeat, 8_000, 2.0 * slow),
            sample("capture/8 single", "attached", repeat, 8_000, 2.05 * slow),
            sample("capture/8 single", "notify", repeat, 8_000, 8.0 * slow),
            sample("capture/8 single", "statement trigger", repeat, 8_000, 2.4 * slow),
            with_tables(sample("relay", "pipeline", repeat, 100_000, 2.5 * slow), 12, 0),
            sample("relay", "limit", repeat, 100_000, 2.0 * slow),
            sample("relay", "limit again", repeat, 100_000, 2.02 * slow + 0.01 * f64::from(repeat)),
            sample("projection", "1 consumer", repeat, 50_000, 3.0 * slow),
            with_process(
                sample("projection", "2 consumers", repeat, 50_000, 2.2 * slow),
                "consumer",
                0.7,
                31.5,
            ),
            sample("projection", "4 consumers", repeat, 50_000, 2.4 * slow),
            sample("projection", "limit", repeat, 50_000, 2.0 * slow),
            sample("projection", "limit again", repeat, 50_000, 1.98 * slow),
        ]);
    }
    let end_to_end = with_tables(sample("end to end", "pipeline", 0, 100_000, 5.5), 1_204, 0);
    run.samples.extend([
        with_process(with_process(end_to_end, "consumer", 1.9, 38.2), "postgres", 6.25, 1_310.0),
        peer("slow_queue 1.2.3", 2_000, 4.0),
        peer("other_queue 0.1 (batches)", 20_000, 3.0),
        with_latency(sample("steady 1000", "pipeline", 0, 30_000, 30.05), 3.94, 11.2),
        with_latency(sample("held transaction", "pipeline, free", 0, 30_000, 30.0), 4.0, 12.0),
        with_latency(sample("held transaction", "pipeline, held", 0, 30_000, 30.1), 4.1, 13.0),
        with_latency(sample("held transaction", "fenced reader, free", 0, 30_000, 30.0), 7.5, 21.0),
        sample("held transaction", "fenced reader, held", 0, 0, 30.0),
    ]);
    let mut void = sample("relay", "pipeline", 3, 99_999, 2.0);
    void.void = Some("100,000 rows in the source, 99,999 in the stream".to_owned());
    run.samples.push(void);
    run
}
