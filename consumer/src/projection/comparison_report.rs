//! What a comparison found: counts, digests of both sides, some of the ids; as a whole and by parts of its window.

use std::{collections::BTreeMap, fmt::Write as _};

use common::{identifier::ForwarderId, time_arg::to_rfc3339};
use serde::Serialize;
use threadline::{Digest, StoredAction, digest::RowHash, stored::Window};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Into which parts a window is cut.
#[derive(Debug, Clone)]
pub(crate) enum Bucketing {
    /// None.
    Whole,
    /// Parts of this length, counted from 1970.
    Every(Duration),
    /// These parts, in order, and what lies between them apart.
    At(Vec<(OffsetDateTime, OffsetDateTime)>),
}

/// Outside of all parts.
const OUTSIDE: i64 = -1;

impl Bucketing {
    fn bucket(&self, at: OffsetDateTime) -> i64 {
        match self {
            Self::Whole => 0,
            Self::Every(length) => at.unix_timestamp().div_euclid(length.whole_seconds().max(1)),
            Self::At(parts) => {
                let behind = parts.partition_point(|(since, _)| *since <= at);
                match behind.checked_sub(1) {
                    Some(index) if at < parts[index].1 => i64::try_from(index).unwrap_or(OUTSIDE),
                    _ => OUTSIDE,
                }
            }
        }
    }

    fn name(&self, bucket: i64) -> Option<String> {
        let Self::Every(length) = self else { return None };
        let since = OffsetDateTime::from_unix_timestamp(bucket * length.whole_seconds()).ok()?;
        Some(to_rfc3339(since))
    }
}

/// What became of one event or action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// On both sides, and the same.
    Matched,
    /// Committed, settled, and not in the timeline.
    Missing,
    /// In the timeline, and not in the source.
    Extra,
    /// On both sides, and not the same.
    Differing,
    /// On its way.
    Pending,
    /// A dead letter.
    Dead,
    /// A dead letter that an operator discarded.
    Discarded,
    /// Another forwarder has brought it in under an id of its own.
    DeliveredElsewhere,
    /// In the timeline, and older than anything in the source: retention came first there.
    SourceExpired,
}

impl Finding {
    const ALL: [Self; 9] = [
        Self::Matched,
        Self::Missing,
        Self::Extra,
        Self::Differing,
        Self::Pending,
        Self::Dead,
        Self::Discarded,
        Self::DeliveredElsewhere,
        Self::SourceExpired,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Differing => "differing",
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::DeliveredElsewhere => "adopted",
            Self::SourceExpired => "outlived",
        }
    }

    /// What must not be.
    const FAULTS: [Self; 3] = [Self::Missing, Self::Extra, Self::Differing];
}

/// One part of a window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    counts: BTreeMap<Finding, u64>,
    /// Of what the timeline should hold: matched, missing and differing events, as their actions.
    pub(crate) source: Digest,
    /// Of what it holds: matched, extra and differing actions.
    pub(crate) timeline: Digest,
    /// The oldest action of the timeline.
    pub(crate) first_at: Option<OffsetDateTime>,
}

impl Bucket {
    /// How many there are of something.
    pub(crate) fn count(&self, finding: Finding) -> u64 {
        self.counts.get(&finding).copied().unwrap_or(0)
    }

    /// Whether both sides are equal, except what is on its way or a dead letter.
    pub(crate) fn is_equal(&self) -> bool {
        Finding::FAULTS.iter().all(|fault| self.count(*fault) == 0)
    }

    fn extend_to(&mut self, at: OffsetDateTime) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
    }

    fn json(&self, since: Option<String>) -> BucketJson {
        let counts = Finding::ALL.iter().map(|finding| (finding.name(), self.count(*finding))).collect();
        BucketJson {
            since,
            equal: self.is_equal(),
            counts,
            source: SideJson { rows: self.source.rows(), digest: self.source.to_string() },
            timeline: SideJson { rows: self.timeline.rows(), digest: self.timeline.to_string() },
        }
    }
}

/// Something to examine more closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Example {
    finding: &'static str,
    id: Uuid,
    /// The columns that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<&'static str>,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub(crate) struct ComparisonReport {
    bucketing: Bucketing,
    parts: BTreeMap<i64, Bucket>,
    examples: Vec<Example>,
    limit: usize,
    /// Of the missing ones, those under whose correlation id another writer has written an action that does not count.
    pub(crate) elsewhere: u64,
}

impl ComparisonReport {
    pub(crate) fn new(bucketing: Bucketing, limit: usize) -> Self {
        Self { bucketing, parts: BTreeMap::new(), examples: Vec::new(), limit, elsewhere: 0 }
    }

    fn bucket_mut(&mut self, at: OffsetDateTime) -> &mut Bucket {
        self.parts.entry(self.bucketing.bucket(at)).or_default()
    }

    fn count_finding(&mut self, at: OffsetDateTime, finding: Finding) -> &mut Bucket {
        let bucket = self.bucket_mut(at);
        *bucket.counts.entry(finding).or_default() += 1;
        bucket
    }

    /// Both sides hold it.
    pub(crate) fn both(&mut self, expected: &StoredAction, stored: &StoredAction) -> Finding {
        if expected == stored {
            let row = RowHash::new(&stored.canonical());
            let bucket = self.count_finding(expected.inserted_at, Finding::Matched);
            bucket.source.add(&row);
            bucket.timeline.add(&row);
            bucket.extend_to(stored.inserted_at);
            return Finding::Matched;
        }
        self.add_example(Finding::Differing, expected.id, expected.differences(stored));
        let bucket = self.count_finding(expected.inserted_at, Finding::Differing);
        bucket.source.add(&RowHash::new(&expected.canonical()));
        bucket.timeline.add(&RowHash::new(&stored.canonical()));
        bucket.extend_to(stored.inserted_at);
        Finding::Differing
    }

    /// Committed, and not in the timeline.
    pub(crate) fn source_only(
        &mut self,
        id: Uuid,
        at: OffsetDateTime,
        expected: Option<&StoredAction>,
        finding: Finding,
    ) {
        if finding == Finding::Missing {
            self.add_example(finding, id, Vec::new());
        }
        let bucket = self.count_finding(at, finding);
        if let (Finding::Missing, Some(expected)) = (finding, expected) {
            bucket.source.add(&RowHash::new(&expected.canonical()));
        }
    }

    /// In the timeline, and not in the source.
    pub(crate) fn timeline_only(&mut self, stored: &StoredAction, finding: Finding) {
        if finding == Finding::Extra {
            self.add_example(finding, stored.id, Vec::new());
        }
        let bucket = self.count_finding(stored.inserted_at, finding);
        bucket.timeline.add(&RowHash::new(&stored.canonical()));
        bucket.extend_to(stored.inserted_at);
    }

    fn add_example(&mut self, finding: Finding, id: Uuid, columns: Vec<&'static str>) {
        if self.examples.iter().filter(|example| example.finding == finding.name()).count() < self.limit {
            self.examples.push(Example { finding: finding.name(), id, columns });
        }
    }

    /// One of the parts that the window was cut [at](Bucketing::At); an empty one when nothing was in it.
    pub(crate) fn bucket(&self, index: usize) -> Bucket {
        self.parts.get(&i64::try_from(index).unwrap_or(OUTSIDE)).cloned().unwrap_or_default()
    }

    /// How many there are of something, in all parts.
    pub(crate) fn count(&self, finding: Finding) -> u64 {
        self.parts.values().map(|bucket| bucket.count(finding)).sum()
    }

    /// Whether both sides are equal in all parts.
    pub(crate) fn is_equal(&self) -> bool {
        self.parts.values().all(Bucket::is_equal)
    }

    /// For programs and people.
    pub(crate) fn printed(
        &self,
        forwarder: &ForwarderId,
        window: Window,
        repaired: Option<u64>,
    ) -> PrintedReport {
        let whole = matches!(self.bucketing, Bucketing::Whole).then(|| self.bucket(0).json(None));
        // Digests of parts cannot be added up once they are written.
        let parts = match &self.bucketing {
            Bucketing::Whole => Vec::new(),
            bucketing => self.parts.iter().map(|(bucket, sums)| sums.json(bucketing.name(*bucket))).collect(),
        };
        let counts = Finding::ALL.iter().map(|finding| (finding.name(), self.count(*finding))).collect();
        PrintedReport {
            forwarder: forwarder.to_string(),
            since: window.since.map(to_rfc3339),
            until: window.until.map(to_rfc3339),
            equal: self.is_equal(),
            counts,
            source: whole.as_ref().map(|whole| whole.source.clone()),
            timeline: whole.map(|whole| whole.timeline),
            parts,
            examples: self.examples.clone(),
            elsewhere: self.elsewhere,
            repaired,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct SideJson {
    rows: u64,
    digest: String,
}

#[derive(Debug, Clone, Serialize)]
struct BucketJson {
    since: Option<String>,
    equal: bool,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    source: SideJson,
    timeline: SideJson,
}

/// What is printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PrintedReport {
    forwarder: String,
    since: Option<String>,
    until: Option<String>,
    equal: bool,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SideJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<SideJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<BucketJson>,
    examples: Vec<Example>,
    elsewhere: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<u64>,
}

impl PrintedReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let since = self.since.as_deref().unwrap_or("the beginning");
        let until = self.until.as_deref().unwrap_or("now");
        let verdict = if self.equal { "equal" } else { "NOT EQUAL" };
        let mut text = format!("forwarder {}, {since} to {until}: {verdict}\n", self.forwarder);
        for finding in Finding::ALL {
            let count = self.counts.get(finding.name()).copied().unwrap_or(0);
            if count > 0 || finding == Finding::Matched || Finding::FAULTS.contains(&finding) {
                let _ = writeln!(text, "  {:<10} {count}", finding.name());
            }
        }
        for (name, side) in [("source", &self.source), ("timeline", &self.timeline)] {
            if let Some(SideJson { rows, digest }) = side {
                let _ = writeln!(text, "  {name:<10} {rows} rows, digest {digest}");
            }
        }
        for bucket in &self.parts {
            let since = bucket.since.as_deref().unwrap_or("elsewhere");
            let verdict = if bucket.equal { "equal" } else { "NOT EQUAL" };
            let _ = write!(text, "  {since}  {:>9} rows  {verdict}", bucket.timeline.rows);
            for fault in Finding::FAULTS {
                let count = bucket.counts.get(fault.name()).copied().unwrap_or(0);
                if count > 0 {
                    let _ = write!(text, ", {count} {}", fault.name());
                }
            }
            text.push('\n');
        }
        for Example { finding, id, columns } in &self.examples {
            let columns =
                if columns.is_empty() { String::new() } else { format!(": {}", columns.join(", ")) };
            let _ = writeln!(text, "  {finding:<10} {id}{columns}");
        }
        if self.elsewhere > 0 {
            let _ = writeln!(
                text,
                "  elsewhere  {} of the missing, under an id of another system: not adopted",
                self.elsewhere
            );
        }
        if let Some(repaired) = self.repaired {
            let _ = writeln!(text, "  repaired   {repaired}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_window_is_cut_into_parts() {
        let day = Bucketing::Every(Duration::DAY);
        let bucket = day.bucket(datetime!(2026-05-15 23:59:59 UTC));
        assert_eq!(day.name(bucket).as_deref(), Some("2026-05-15T00:00:00Z"));
        assert_eq!(bucket + 1, day.bucket(datetime!(2026-05-16 00:00 UTC)));
        assert!(day.bucket(datetime!(1969-12-31 23:00 UTC)) < day.bucket(datetime!(1970-01-01 00:00 UTC)));
        let at = Bucketing::At(vec![
            (datetime!(2026-01-01 00:00 UTC), datetime!(2026-01-02 00:00 UTC)),
            (datetime!(2026-01-03 00:00 UTC), datetime!(2026-01-04 00:00 UTC)),
        ]);
        let parts = [1, 2, 3, 4].map(|day| at.bucket(datetime!(2025-12-31 12:00 UTC) + Duration::days(day)));
        assert_eq!(parts, [0, OUTSIDE, 1, OUTSIDE]);
        assert_eq!(at.bucket(datetime!(2025-12-31 12:00 UTC)), OUTSIDE);
    }
}
