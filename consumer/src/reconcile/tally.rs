//! What a comparison found: counts, digests of both sides, some of the ids; as a whole and by parts of its window.

use std::{collections::BTreeMap, fmt::Write as _};

use common::{identifier::ForwarderId, moment::written};
use serde::Serialize;
use threadline::{Digest, StoredAction, digest::Stretched, stored::Window};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Into which parts a window is cut.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    /// None.
    Whole,
    /// Parts of this length, counted from 1970.
    Every(Duration),
    /// These parts, in order, and what lies between them apart.
    At(Vec<(OffsetDateTime, OffsetDateTime)>),
}

/// Outside of all parts.
const OUTSIDE: i64 = -1;

impl Cut {
    fn part(&self, at: OffsetDateTime) -> i64 {
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

    fn name(&self, part: i64) -> Option<String> {
        let Self::Every(length) = self else { return None };
        let since = OffsetDateTime::from_unix_timestamp(part * length.whole_seconds()).ok()?;
        Some(written(since))
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
    /// A letter that somebody discarded.
    Discarded,
    /// Another forwarder has brought it in under an id of its own.
    Adopted,
    /// In the timeline, and older than anything in the source: retention came first there.
    Outlived,
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
        Self::Adopted,
        Self::Outlived,
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
            Self::Adopted => "adopted",
            Self::Outlived => "outlived",
        }
    }

    /// What must not be.
    const FAULTS: [Self; 3] = [Self::Missing, Self::Extra, Self::Differing];
}

/// One part of a window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    counts: BTreeMap<Finding, u64>,
    /// Of what the timeline should hold: matched, missing and differing events, as their actions.
    pub(crate) source: Digest,
    /// Of what it holds: matched, extra and differing actions.
    pub(crate) timeline: Digest,
    /// The oldest action of the timeline.
    pub(crate) first_at: Option<OffsetDateTime>,
}

impl Part {
    /// How many there are of something.
    pub(crate) fn count(&self, finding: Finding) -> u64 {
        self.counts.get(&finding).copied().unwrap_or(0)
    }

    /// Whether both sides are equal, but for what is on its way or a letter.
    pub(crate) fn is_equal(&self) -> bool {
        Finding::FAULTS.iter().all(|fault| self.count(*fault) == 0)
    }

    fn seen(&mut self, at: OffsetDateTime) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
    }

    fn json(&self, since: Option<String>) -> PartJson {
        let counts = Finding::ALL.iter().map(|finding| (finding.name(), self.count(*finding))).collect();
        PartJson {
            since,
            equal: self.is_equal(),
            counts,
            source: Side { rows: self.source.rows(), digest: self.source.to_string() },
            timeline: Side { rows: self.timeline.rows(), digest: self.timeline.to_string() },
        }
    }
}

/// Something to look at more closely.
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
pub(crate) struct Tally {
    cut: Cut,
    parts: BTreeMap<i64, Part>,
    examples: Vec<Example>,
    limit: usize,
    /// Of the missing ones, those under whose correlation id somebody else has written an action that does not count.
    pub(crate) elsewhere: u64,
}

impl Tally {
    pub(crate) fn new(cut: Cut, limit: usize) -> Self {
        Self { cut, parts: BTreeMap::new(), examples: Vec::new(), limit, elsewhere: 0 }
    }

    fn part_mut(&mut self, at: OffsetDateTime) -> &mut Part {
        self.parts.entry(self.cut.part(at)).or_default()
    }

    fn note(&mut self, at: OffsetDateTime, finding: Finding) -> &mut Part {
        let part = self.part_mut(at);
        *part.counts.entry(finding).or_default() += 1;
        part
    }

    /// Both sides hold it.
    pub(crate) fn both(&mut self, expected: &StoredAction, stored: &StoredAction) -> Finding {
        if expected == stored {
            let row = Stretched::new(&stored.canonical());
            let part = self.note(expected.inserted_at, Finding::Matched);
            part.source.add(&row);
            part.timeline.add(&row);
            part.seen(stored.inserted_at);
            return Finding::Matched;
        }
        self.example(Finding::Differing, expected.id, expected.differences(stored));
        let part = self.note(expected.inserted_at, Finding::Differing);
        part.source.add(&Stretched::new(&expected.canonical()));
        part.timeline.add(&Stretched::new(&stored.canonical()));
        part.seen(stored.inserted_at);
        Finding::Differing
    }

    /// Committed, and not in the timeline.
    pub(crate) fn absent(
        &mut self,
        id: Uuid,
        at: OffsetDateTime,
        expected: Option<&StoredAction>,
        finding: Finding,
    ) {
        if finding == Finding::Missing {
            self.example(finding, id, Vec::new());
        }
        let part = self.note(at, finding);
        if let (Finding::Missing, Some(expected)) = (finding, expected) {
            part.source.add(&Stretched::new(&expected.canonical()));
        }
    }

    /// In the timeline, and not in the source.
    pub(crate) fn stray(&mut self, stored: &StoredAction, finding: Finding) {
        if finding == Finding::Extra {
            self.example(finding, stored.id, Vec::new());
        }
        let part = self.note(stored.inserted_at, finding);
        part.timeline.add(&Stretched::new(&stored.canonical()));
        part.seen(stored.inserted_at);
    }

    fn example(&mut self, finding: Finding, id: Uuid, columns: Vec<&'static str>) {
        if self.examples.iter().filter(|example| example.finding == finding.name()).count() < self.limit {
            self.examples.push(Example { finding: finding.name(), id, columns });
        }
    }

    /// One of the parts that the window was cut [at](Cut::At); an empty one when nothing was in it.
    pub(crate) fn part(&self, index: usize) -> Part {
        self.parts.get(&i64::try_from(index).unwrap_or(OUTSIDE)).cloned().unwrap_or_default()
    }

    /// How many there are of something, in all parts.
    pub(crate) fn count(&self, finding: Finding) -> u64 {
        self.parts.values().map(|part| part.count(finding)).sum()
    }

    /// Whether both sides are equal in all parts.
    pub(crate) fn is_equal(&self) -> bool {
        self.parts.values().all(Part::is_equal)
    }

    /// For programs and people.
    pub(crate) fn report(&self, forwarder: &ForwarderId, window: Window, repaired: Option<u64>) -> Report {
        let whole = matches!(self.cut, Cut::Whole).then(|| self.part(0).json(None));
        // Digests of parts cannot be added up once they are written.
        let parts = match &self.cut {
            Cut::Whole => Vec::new(),
            cut => self.parts.iter().map(|(part, sums)| sums.json(cut.name(*part))).collect(),
        };
        let counts = Finding::ALL.iter().map(|finding| (finding.name(), self.count(*finding))).collect();
        Report {
            forwarder: forwarder.to_string(),
            since: window.since.map(written),
            until: window.until.map(written),
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
struct Side {
    rows: u64,
    digest: String,
}

#[derive(Debug, Clone, Serialize)]
struct PartJson {
    since: Option<String>,
    equal: bool,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    source: Side,
    timeline: Side,
}

/// What is printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    forwarder: String,
    since: Option<String>,
    until: Option<String>,
    equal: bool,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Side>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartJson>,
    examples: Vec<Example>,
    elsewhere: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<u64>,
}

impl Report {
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
            if let Some(Side { rows, digest }) = side {
                let _ = writeln!(text, "  {name:<10} {rows} rows, digest {digest}");
            }
        }
        for part in &self.parts {
            let since = part.since.as_deref().unwrap_or("elsewhere");
            let verdict = if part.equal { "equal" } else { "NOT EQUAL" };
            let _ = write!(text, "  {since}  {:>9} rows  {verdict}", part.timeline.rows);
            for fault in Finding::FAULTS {
                let count = part.counts.get(fault.name()).copied().unwrap_or(0);
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
                "  elsewhere  {} of the missing, under an id of somebody else: nobody has adopted them",
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
        let day = Cut::Every(Duration::DAY);
        let part = day.part(datetime!(2026-05-15 23:59:59 UTC));
        assert_eq!(day.name(part).as_deref(), Some("2026-05-15T00:00:00Z"));
        assert_eq!(part + 1, day.part(datetime!(2026-05-16 00:00 UTC)));
        assert!(day.part(datetime!(1969-12-31 23:00 UTC)) < day.part(datetime!(1970-01-01 00:00 UTC)));
        let at = Cut::At(vec![
            (datetime!(2026-01-01 00:00 UTC), datetime!(2026-01-02 00:00 UTC)),
            (datetime!(2026-01-03 00:00 UTC), datetime!(2026-01-04 00:00 UTC)),
        ]);
        let parts = [1, 2, 3, 4].map(|day| at.part(datetime!(2025-12-31 12:00 UTC) + Duration::days(day)));
        assert_eq!(parts, [0, OUTSIDE, 1, OUTSIDE]);
        assert_eq!(at.part(datetime!(2025-12-31 12:00 UTC)), OUTSIDE);
    }
}
