//! Which row a change is of, where rows take one another's keys within a transaction.
//!
//! Under a key that the server checks at the end of a statement or of the transaction, two rows can be at once, and a trigger of the
//! host's can have what it does captured before what it reacts to. So a change follows another one under the same key only where the row
//! before it is the row that the other one left. Where that is not so, or cannot be known, all rows that were under the key are in doubt.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    image::Image,
    reason::{self, Reason},
    target::Target,
};
use crate::{
    capture::HostTable,
    query::{
        Change, Json, canonical,
        row::{RowKey, image as keys},
    },
};

/// A change that is to be undone.
pub(super) struct Step<'c> {
    pub(super) change: &'c Change,
    pub(super) table: HostTable,
    target: Option<&'c Target>,
    before: RowKey,
    after: RowKey,
}

/// Why what became of a row is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Changes are missing between others.
    Gap,
    /// Rows had one key at once, or may have.
    Exchange,
}

/// All keys of the changes.
pub(super) struct Keys {
    by_key: BTreeMap<(HostTable, RowKey), Place>,
}

/// What happened under one key.
#[derive(Default)]
struct Place {
    /// The row that is there, or was deleted there last.
    row: Option<usize>,
    /// All that were there.
    rows: BTreeSet<usize>,
    /// Rows that got another key, as they were before that.
    left: Vec<(usize, Before)>,
    /// Whether a row came by an insert or by a change of its key.
    has_arrivals: bool,
    /// Whether a row went by a delete or by a change of its key. Without both no two rows were there at once.
    has_departures: bool,
    is_in_doubt: bool,
}

/// What a change says of the row before it.
struct Before {
    changed: BTreeMap<String, Json>,
    unchanged: BTreeMap<String, Json>,
    is_whole: bool,
}

/// How the row before a change compares with what another one left.
#[derive(Debug, PartialEq, Eq)]
enum Likeness {
    /// A value that the change replaced was not there.
    Contradicted,
    /// A value that it left alone is another one.
    Different,
    /// Nothing differs that is stored, and not all is.
    Possible,
    Same,
}

impl<'c> Step<'c> {
    pub(super) fn new(change: &'c Change, targets: &'c BTreeMap<HostTable, Target>) -> Self {
        let table = HostTable { schema: change.table_schema.clone(), name: change.table_name.clone() };
        let after = keys::key(&change.table_pk).unwrap_or_default();
        let before = keys::key_before(change).unwrap_or_else(|| after.clone());
        Self { change, target: targets.get(&table), table, before, after }
    }

    pub(super) fn key_before(&self) -> Json {
        let is_stored = self.change.key_before.is_some() || !self.moves();
        let stored = self.change.key_before.as_ref().unwrap_or(&self.change.table_pk);
        if is_stored { stored.clone() } else { keys::key_document(&self.before) }
    }

    /// Whether it gives the row another key.
    pub(super) fn moves(&self) -> bool {
        self.before != self.after
    }

    fn is_insert(&self) -> bool {
        self.change.op == "insert"
    }

    fn row_before(&self) -> Before {
        let members =
            |document: Option<&Json>| document.map(|json| canonical::members(json)).unwrap_or_default();
        if self.change.op == "delete" {
            let unchanged = members(self.change.data_before.as_ref());
            return Before {
                is_whole: self.change.data_before.is_some(),
                changed: BTreeMap::new(),
                unchanged,
            };
        }
        let (changed, mut unchanged) =
            (members(self.change.changed_from.as_ref()), members(self.change.data_after.as_ref()));
        let mut is_whole = self.change.data_after.is_some();
        for name in self.change.changed_fields.as_deref().unwrap_or_default() {
            unchanged.remove(name);
            // What a row has in its key is known.
            is_whole &= changed.contains_key(name) || self.before.contains_key(name);
        }
        Before { changed, unchanged, is_whole }
    }
}

impl Keys {
    pub(super) fn of(steps: &[Step<'_>]) -> Self {
        let mut keys = Self { by_key: BTreeMap::new() };
        for step in steps {
            keys.place(step, &step.before).has_departures |= step.moves() || step.change.op == "delete";
            keys.place(step, &step.after).has_arrivals |= step.moves() || step.is_insert();
        }
        keys
    }

    fn place(&mut self, step: &Step<'_>, key: &RowKey) -> &mut Place {
        self.by_key.entry((step.table.clone(), key.clone())).or_default()
    }

    /// The row that a change is of, where another change before it was of it too. `now` is what is left of a row; nothing of one that was
    /// deleted.
    pub(super) fn row_before<'i>(
        &mut self,
        step: &Step<'_>,
        now: impl Fn(usize) -> Option<&'i Image>,
    ) -> Option<usize> {
        let place = self.place(step, &step.before);
        let found = place.row.map(|number| (number, now(number)));
        let is_certain = match found {
            // Whatever was there first, it was not this row.
            None => step.is_insert() || place.rows.is_empty(),
            Some((_, None)) => step.is_insert(),
            Some((_, Some(_))) if step.is_insert() => false,
            Some((_, Some(image))) => {
                let can_be_shared = place.has_arrivals && place.has_departures;
                let is_checked_at_once = step.target.is_some_and(|target| target.is_key_immediate);
                match step.row_before().compare(image, step.target) {
                    Likeness::Contradicted => false,
                    Likeness::Different => !can_be_shared,
                    Likeness::Possible => !can_be_shared || is_checked_at_once,
                    Likeness::Same => true,
                }
            }
        };
        place.is_in_doubt |= !is_certain;
        found.map(|(number, _)| number)
    }

    /// After a change of a row.
    pub(super) fn leave(&mut self, step: &Step<'_>, number: usize, now: Option<&Image>) {
        let place = self.place(step, &step.before);
        place.rows.insert(number);
        if step.moves() {
            place.row = None;
            place.left.push((number, step.row_before()));
        }
        let place = self.place(step, &step.after);
        place.rows.insert(number);
        // Two rows at once, or one that takes the key of another that was deleted.
        let displaced = place.row.replace(number).is_some_and(|other| other != number);
        // One that left before it came, where its changes were captured the other way round.
        let came_later = (step.moves() || step.is_insert())
            && now.is_some_and(|now| {
                place.left.iter().any(|(other, before)| {
                    *other != number
                        && matches!(before.compare(now, step.target), Likeness::Possible | Likeness::Same)
                })
            });
        place.is_in_doubt |= displaced || came_later;
    }

    /// For each of so many rows, why it is in doubt.
    pub(super) fn doubts(&self, rows: usize, has_moved: impl Fn(usize) -> bool) -> Vec<Option<Doubt>> {
        let mut doubts = vec![None; rows];
        for place in self.by_key.values().filter(|place| place.is_in_doubt) {
            let is_exchange = place.rows.iter().any(|number| has_moved(*number));
            let doubt = if is_exchange { Doubt::Exchange } else { Doubt::Gap };
            for number in &place.rows {
                doubts[*number] = doubts[*number].max(Some(doubt));
            }
        }
        doubts
    }
}

impl Doubt {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Gap => Reason::new(
                "incomplete",
                "its changes do not follow each other: some are hidden or gone; undo the last one alone",
            ),
            Self::Exchange => reason::keys_exchanged(
                "rows of the transaction had the same key, and which of its changes are of which row is not certain",
            ),
        }
    }
}

impl Before {
    fn compare(&self, now: &Image, target: Option<&Target>) -> Likeness {
        let left = |name: &String| now.get(name).and_then(Option::as_ref).map(|held| &held.document);
        let differs = |(name, is): (&String, &Json)| left(name).is_some_and(|left| !keys::is_same(left, is));
        if self.changed.iter().any(differs) {
            return Likeness::Contradicted;
        }
        let Some((target, policy)) = target.and_then(|target| Some((target, target.policy.as_ref()?))) else {
            return if self.unchanged.iter().any(differs) { Likeness::Different } else { Likeness::Possible };
        };
        // A policy can except columns from what counts as a change.
        if self.unchanged.iter().any(|(name, is)| !policy.except.contains(name) && differs((name, is))) {
            return Likeness::Different;
        }
        let is_proof = |(name, is): (&String, &Json)| {
            left(name).is_some_and(|left| left.get() == is.get()) && target.shows_whole(name, is)
        };
        let is_all = self.is_whole && policy.redacted().is_empty();
        if is_all && self.changed.iter().chain(&self.unchanged).all(is_proof) {
            Likeness::Same
        } else {
            Likeness::Possible
        }
    }
}
