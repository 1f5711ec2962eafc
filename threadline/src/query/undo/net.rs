//! What became of each row, over all changes that are to be undone.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Refused,
    image::{Held, Image, image},
    keys::{Doubt, Keys, Step},
    reason::Reason,
    target::Target,
};
use crate::{
    capture::HostTable,
    query::{Change, Json, canonical},
};

/// What became of a row.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) table: HostTable,
    /// In the order of capture.
    pub(super) changes: Vec<Uuid>,
    /// When the first of them was captured.
    pub(super) since: OffsetDateTime,
    /// The key that the row has now; of one that was deleted, the key that it gets back.
    pub(super) key: Json,
    pub(super) effect: Effect,
    /// Grows in the order of capture.
    place: usize,
}

impl Net {
    /// The last change of a row that was there before and is there after.
    pub(super) fn last_update(&self) -> Option<Uuid> {
        let is_there = matches!(self.effect, Effect::Updated { .. } | Effect::Replaced { .. });
        is_there.then(|| self.changes.last().copied()).flatten()
    }
}

/// From what was there before the first change to what the last one left.
#[derive(Debug)]
pub(super) enum Effect {
    Updated {
        before: Image,
        after: Image,
    },
    /// It was deleted, and another one inserted with its key.
    Replaced {
        before: Image,
        after: Image,
    },
    Inserted {
        after: Image,
    },
    /// Without an image, what was deleted is not known.
    Deleted {
        before: Option<Image>,
    },
}

/// What was stored of a row when it was deleted.
struct Deleted {
    image: Option<Image>,
}

/// A row while its changes are followed.
struct Row {
    table: HostTable,
    changes: Vec<Uuid>,
    since: OffsetDateTime,
    key_before: Json,
    key_after: Json,
    was_there: bool,
    /// Fields that were changed, as they were before the first change of each.
    fields: Image,
    /// The whole row as it was, once it was deleted.
    deleted: Option<Deleted>,
    now: Option<Image>,
    inserted_at: usize,
    deleted_at: usize,
    last_at: usize,
    has_moved: bool,
}

/// Of changes in the order of capture; the newest first, with what of them cannot be followed.
pub(super) fn nets(changes: &[Change], targets: &BTreeMap<HostTable, Target>) -> (Vec<Net>, Vec<Refused>) {
    let mut rows: Vec<Row> = Vec::new();
    let mut refused = Vec::new();
    let mut steps: Vec<Step<'_>> = Vec::new();
    let erased = Erased::of(changes);
    for change in changes {
        let step = Step::new(change, targets);
        match unfollowed(change).or_else(|| erased.reason(change)) {
            Some(reason) => refused.push(reason.of(&step.table, &[change.id], &change.table_pk)),
            None => steps.push(step),
        }
    }
    let mut keys = Keys::of(&steps);
    for (place, step) in steps.iter().enumerate() {
        let number = keys.row_before(step, |number| rows[number].now.as_ref()).unwrap_or_else(|| {
            rows.push(Row::new(step));
            rows.len() - 1
        });
        rows[number].follow(step, place);
        keys.leave(step, number, rows[number].now.as_ref());
    }
    let doubts = keys.doubts(rows.len(), |number| rows[number].has_moved);
    let mut nets: Vec<Net> = Vec::new();
    for (row, doubt) in rows.into_iter().zip(doubts) {
        match doubt.map(Doubt::reason) {
            Some(reason) => refused.push(reason.of(&row.table, &row.changes, &row.key_after)),
            None => nets.extend(row.into_net()),
        }
    }
    nets.sort_by_key(|net| std::cmp::Reverse(net.place));
    (nets, refused)
}

fn unfollowed(change: &Change) -> Option<Reason> {
    if !matches!(change.op.as_str(), "insert" | "update" | "delete") {
        return Some(Reason::new(
            "truncate",
            "rows that a truncate removes are not captured; restore a backup",
        ));
    }
    let key = canonical::members(&change.table_pk);
    (key.is_empty() || key.values().any(|value| value.get() == "null"))
        .then(|| Reason::new("key_unknown", "the change does not say which row it is of"))
}

/// The keys of rows of which a value was erased: what became of these cannot be told from what is left.
struct Erased<'c>(BTreeSet<(&'c str, &'c str, &'c str)>);

impl<'c> Erased<'c> {
    fn of(changes: &'c [Change]) -> Self {
        Self(changes.iter().filter(|change| change.erased.is_some()).flat_map(Self::keys).collect())
    }

    fn keys(change: &Change) -> impl Iterator<Item = (&str, &str, &str)> {
        let keys = [Some(&change.table_pk), change.key_before.as_ref()].into_iter().flatten();
        keys.map(|key| (change.table_schema.as_str(), change.table_name.as_str(), key.get()))
    }

    fn reason(&self, change: &Change) -> Option<Reason> {
        Self::keys(change).any(|key| self.0.contains(&key)).then(|| {
            Reason::new("erased", "values of the row were erased, and what it held before cannot be restored")
        })
    }
}

impl Row {
    fn new(step: &Step<'_>) -> Self {
        Self {
            table: step.table.clone(),
            changes: Vec::new(),
            since: step.change.captured_at,
            key_before: step.key_before(),
            key_after: step.change.table_pk.clone(),
            was_there: step.change.op != "insert",
            fields: Image::new(),
            deleted: None,
            now: None,
            inserted_at: 0,
            deleted_at: 0,
            last_at: 0,
            has_moved: false,
        }
    }

    fn follow(&mut self, step: &Step<'_>, place: usize) {
        let change = step.change;
        let after = image(change.data_after.as_ref(), change.json_nulls.as_deref());
        match change.op.as_str() {
            "insert" => {
                self.inserted_at = place;
                self.now = Some(after.unwrap_or_default());
            }
            "update" => {
                self.note_fields(change);
                self.now = Some(after.unwrap_or_default());
            }
            _ => {
                if self.was_there && self.deleted.is_none() {
                    let mut whole = image(change.data_before.as_ref(), change.json_nulls.as_deref());
                    if let Some(whole) = &mut whole {
                        whole.append(&mut self.fields);
                    }
                    self.deleted = Some(Deleted { image: whole });
                }
                self.deleted_at = place;
                self.now = None;
            }
        }
        self.changes.push(change.id);
        self.last_at = place;
        self.has_moved |= step.moves();
        self.key_after = change.table_pk.clone();
    }

    fn note_fields(&mut self, change: &Change) {
        if !self.was_there || self.deleted.is_some() {
            return;
        }
        let mut before = change.changed_from.as_deref().map(canonical::members).unwrap_or_default();
        for name in change.changed_fields.as_deref().unwrap_or_default() {
            let held = before.remove(name).map(|document| Held { document, is_sql_null: None });
            self.fields.entry(name.clone()).or_insert(held);
        }
    }

    fn into_net(self) -> Option<Net> {
        let (effect, place) = match (self.was_there, self.now, self.deleted) {
            (false, None, _) => return None,
            (false, Some(after), _) => (Effect::Inserted { after }, self.inserted_at),
            (true, None, deleted) => {
                (Effect::Deleted { before: deleted.and_then(|deleted| deleted.image) }, self.deleted_at)
            }
            (true, Some(_), Some(Deleted { image: None })) => {
                (Effect::Deleted { before: None }, self.deleted_at)
            }
            (true, Some(after), Some(Deleted { image: Some(before) })) => {
                (Effect::Replaced { before, after }, self.last_at)
            }
            (true, Some(after), None) => (Effect::Updated { before: self.fields, after }, self.last_at),
        };
        let is_deleted = matches!(effect, Effect::Deleted { .. });
        Some(Net {
            table: self.table,
            changes: self.changes,
            since: self.since,
            key: if is_deleted { self.key_before } else { self.key_after },
            effect,
            place,
        })
    }
}
