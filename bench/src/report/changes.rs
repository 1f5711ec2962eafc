//! `capture.md`: what it costs that changes of rows are recorded.

use super::{
    markdown::{introduction, machine, table},
    number,
    summary::{Group, Ratio, Summary},
};
use crate::{
    cases::changes::POSTGRESQL_AUDIT as PEER,
    results::{Run, Sample},
};

/// What the names of its cases begin with.
const CASES: &str = "changes/";

const BARE: &str = "bare";
const LIBRARY: &str = "library";
const LEVELS: [&str; 2] = ["statement level", "row level"];

const VARIANTS: &str = "\
One table of seven columns with a primary key, and one of these on it:

- **bare**: no trigger.
- **statement level**, **row level**: Threadline's triggers with default settings, or without values before an update.
- **library**: the way of the Elixir library, written for this comparison: a row trigger of three statements, with values before \
an update. Its tables and indexes are the library's own. It keeps no image of a deleted row, no key before an update that changes \
it, and no order within a transaction.
- **library, our tables**: the same trigger on the tables that `threadline install` makes, which have the indexes for \
pages and correlation that the library leaves to its host.
- **PostgreSQL-Audit 0.18.0**: its own statement triggers, of its own Python package. It stores no key of the row and has no index \
for the history of one, stores of an update only the changed columns beside the old row, and makes no transaction row for plain SQL. \
In a session that has updated single rows before, its update of 10,000 rows takes minutes; here each has a session of its own. \
Left out where it cannot be installed.

Every timeline holds changes of another table before the first is measured, and each sample begins with a checkpoint: the first \
change of a page then puts the whole page into the write-ahead log, as in a database that is in use. Processor time is that of \
all of PostgreSQL's processes, the statement of the application included.
";

const KINDS: [(&str, f64, f64); 6] = [
    ("insert single", 0.8, 1.0),
    ("update single", 0.8, 1.0),
    ("delete single", 0.8, 1.0),
    ("insert 10,000 rows", 0.4, 1.5),
    ("update 10,000 rows", 0.5, 1.0),
    ("delete 10,000 rows", 0.5, 1.0),
];

const LOG_GOAL: f64 = 0.9;

/// Whether a case belongs here, and not into `report.md`.
pub(super) fn is_of(case: &str) -> bool {
    case.starts_with(CASES)
}

/// Nothing where no such case was measured.
pub(super) fn markdown(run: &Run, summary: &Summary) -> Option<String> {
    let cases: Vec<&str> = summary.cases().into_iter().filter(|case| is_of(case)).collect();
    if cases.is_empty() {
        return None;
    }
    let mut parts = vec![
        introduction("What capture costs", run),
        machine(run),
        format!("## Variants\n\n{VARIANTS}"),
        format!("## Goals\n\n{}", goals(summary)),
        "## Cases\n\nMicroseconds of processor time and bytes of write-ahead log for a row. *Overhead* is the time less that of \
         the bare table.\n"
            .to_owned(),
    ];
    for case in cases {
        let groups: Vec<&Group> = summary.of_case(case).collect();
        parts.push(format!("### {}\n\n{}", &case[CASES.len()..], case_table(summary, &groups)));
    }
    Some(parts.join("\n"))
}

/// Seconds of PostgreSQL's processor time for a row.
fn processor(sample: &Sample) -> Option<f64> {
    Some(sample.per_100k(sample.processes.get("postgres")?.cpu_seconds) / 100_000.0)
}

fn log(sample: &Sample) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 bytes")]
    let bytes = sample.wal_bytes? as f64;
    Some(sample.per_100k(bytes) / 100_000.0)
}

fn goals(summary: &Summary) -> String {
    let mut rows = Vec::new();
    let mut judge = |name: String, target: f64, of: &dyn Fn(&str) -> Option<Ratio>| {
        let mut row = vec![name, format!("at most {target}")];
        for level in LEVELS {
            let ratio = of(level).map(|ratio| ratio.median);
            let mark = match ratio {
                None => "",
                Some(ratio) if ratio <= target => ", met",
                Some(_) => ", **not met**",
            };
            row.push(format!("{}{mark}", number::ratio(ratio)));
        }
        rows.push(row);
    };
    for (kind, of_library, of_peer) in KINDS {
        let case = format!("{CASES}{kind}");
        let case = case.as_str();
        let time = |level: &str, other: &str| summary.ratio_of((case, level), (case, other), processor);
        judge(format!("{kind}: processor time / library"), of_library, &|level| time(level, LIBRARY));
        judge(format!("{kind}: processor time / PostgreSQL-Audit"), of_peer, &|level| time(level, PEER));
        judge(format!("{kind}: log bytes / library"), LOG_GOAL, &|level| {
            summary.ratio_of((case, level), (case, LIBRARY), log)
        });
    }
    table(&["goal", "target", LEVELS[0], LEVELS[1]], 2, &rows)
}

fn case_table(summary: &Summary, groups: &[&Group]) -> String {
    let bare = groups.iter().find(|group| group.variant == BARE).and_then(|group| median(group));
    let row = |group: &&Group| {
        let time = median(group);
        let beside = |other: &str, of: fn(&Sample) -> Option<f64>| {
            if group.variant == other {
                return number::ratio(Some(1.0));
            }
            let ratio = summary.ratio_of((group.case, group.variant), (group.case, other), of);
            number::ratio(ratio.map(|ratio| ratio.median))
        };
        let overhead = time.zip(bare).map(|(time, bare)| (time - bare).max(0.0));
        vec![
            group.variant.to_owned(),
            number::rate(time),
            if group.variant == BARE { number::NONE.to_owned() } else { number::rate(overhead) },
            beside(BARE, processor),
            beside(LIBRARY, processor),
            beside(PEER, processor),
            number::rate(group.wal_per_row),
            beside(LIBRARY, log),
        ]
    };
    let header = [
        "variant",
        "µs/row",
        "overhead",
        "/ bare",
        "/ library",
        "/ PostgreSQL-Audit",
        "log bytes/row",
        "/ library",
    ];
    table(&header, 1, &groups.iter().map(row).collect::<Vec<_>>())
}

/// Microseconds a row.
fn median(group: &Group) -> Option<f64> {
    group.processes.get("postgres")?.cpu_per_100k.map(|seconds| seconds * 10.0)
}

#[cfg(test)]
mod tests {
    use super::markdown;
    use crate::report::{
        example::{empty, sample},
        summary::Summary,
    };
    use crate::results::{Run, Sample, Usage};

    fn taken(variant: &str, seconds: f64) -> Sample {
        let mut sample = sample("changes/insert 10,000 rows", variant, 0, 10_000, 1.0);
        let usage = Usage { cpu_seconds: seconds, peak_mib: 1.0 };
        sample.processes.insert("postgres".to_owned(), usage);
        Sample { wal_bytes: Some(10_000_000), ..sample }
    }

    #[test]
    fn a_goal_is_judged_by_the_way_of_the_library() {
        let samples = vec![taken("bare", 0.1), taken("library", 1.0), taken("statement level", 0.35)];
        let run = Run { samples, ..empty() };
        let page = markdown(&run, &Summary::of(&run)).expect("there are such cases");
        let goal = "| insert 10,000 rows: processor time / library | at most 0.4 | 0.35, met | - |";
        assert!(page.contains(goal), "{page}");
        assert!(
            page.contains("| statement level | 35.0 | 25.0 | 3.50 | 0.35 | - | 1,000 | 1.00 |"),
            "{page}"
        );
        assert!(page.contains("log bytes / library | at most 0.9 | 1.00, **not met** | - |"), "{page}");
    }

    #[test]
    fn without_such_cases_there_is_no_page() {
        let run = empty();
        assert_eq!(markdown(&run, &Summary::of(&run)), None);
    }
}
