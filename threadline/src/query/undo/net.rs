//! What became of each row, over all changes that are to be undone.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Refused, reason::Reason};
use crate::{
    capture::HostTable,
    query::{Change, Json, canonical},
};

/// A value as it was stored.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) document: Json,
    /// Of a null in a column of documents, whether it is SQL's. Values before an update do not say it.
    pub(super) is_sql_null: Option<bool>,
}

/// A row as it was stored. A field without a value was changed, and what it was is not known.
pub(super) type Image = BTreeMap<String, Option<Held>>;

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
        matches!(self.effect, Effect::Updated { .. }).then(|| self.changes.last().copied()).flatten()
    }
}

/// From what was there before the first change to what the last one left.
#[derive(Debug)]
pub(super) enum Effect {
    Updated {
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
    is_broken: bool,
}

/// Of changes in the order of capture; the newest first, with what of them cannot be followed.
pub(super) fn nets(changes: &[Change]) -> (Vec<Net>, Vec<Refused>) {
    let mut rows: Vec<Row> = Vec::new();
    let mut by_key: BTreeMap<(HostTable, String), usize> = BTreeMap::new();
    let mut refused = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        if let Some(reason) = unfollowed(change) {
            refused.push(reason.of(&table(change), &[change.id], &change.table_pk));
            continue;
        }
        let key_before = change.key_before.as_ref().unwrap_or(&change.table_pk);
        let known = by_key.remove(&(table(change), key_before.get().to_owned()));
        let number = known.unwrap_or_else(|| {
            rows.push(Row::new(change, key_before));
            rows.len() - 1
        });
        rows[number].follow(change, place);
        let displaced = by_key.insert((table(change), change.table_pk.get().to_owned()), number);
        if let Some(other) = displaced {
            // Two rows at one key: one of them has gone unseen.
            rows[number].is_broken = true;
            rows[other].is_broken = true;
        }
    }
    let mut nets: Vec<Net> = rows.into_iter().filter_map(|row| row.into_net(&mut refused)).collect();
    nets.sort_by_key(|net| std::cmp::Reverse(net.place));
    (nets, refused)
}

fn table(change: &Change) -> HostTable {
    HostTable { schema: change.table_schema.clone(), name: change.table_name.clone() }
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

fn image(document: Option<&Json>, nulls: Option<&Vec<String>>) -> Option<Image> {
    let members = canonical::members(document?);
    let held = |(name, document): (String, Json)| {
        let is_sql_null = Some(nulls.is_some_and(|nulls| nulls.contains(&name)));
        (name, Some(Held { document, is_sql_null }))
    };
    Some(members.into_iter().map(held).collect())
}

impl Row {
    fn new(change: &Change, key_before: &Json) -> Self {
        Self {
            table: table(change),
            changes: Vec::new(),
            since: change.captured_at,
            key_before: key_before.clone(),
            key_after: change.table_pk.clone(),
            was_there: change.op != "insert",
            fields: Image::new(),
            deleted: None,
            now: None,
            inserted_at: 0,
            deleted_at: 0,
            last_at: 0,
            is_broken: false,
        }
    }

    fn follow(&mut self, change: &Change, place: usize) {
        let is_first = self.changes.is_empty();
        let after = image(change.data_after.as_ref(), change.json_nulls.as_ref());
        match change.op.as_str() {
            "insert" => {
                self.is_broken |= self.now.is_some() || (!is_first && self.deleted_at != self.last_at);
                self.inserted_at = place;
                self.now = Some(after.unwrap_or_default());
            }
            "update" => {
                self.is_broken |= !is_first && self.now.is_none();
                self.note_fields(change);
                self.now = Some(after.unwrap_or_default());
            }
            _ => {
                self.is_broken |= !is_first && self.now.is_none();
                if self.was_there && self.deleted.is_none() {
                    let mut whole = image(change.data_before.as_ref(), change.json_nulls.as_ref());
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
        self.key_after = change.table_pk.clone();
    }

    /// What an update replaced has to be what the change before it has left.
    fn note_fields(&mut self, change: &Change) {
        let mut before = change.changed_from.as_deref().map(canonical::members).unwrap_or_default();
        for name in change.changed_fields.iter().flatten() {
            let held = before.remove(name).map(|document| Held { document, is_sql_null: None });
            if let (Some(held), Some(left)) = (&held, self.now.as_ref().and_then(|now| now.get(name)))
                && left.as_ref().is_some_and(|left| left.document.get() != held.document.get())
            {
                self.is_broken = true;
            }
            if self.was_there && self.deleted.is_none() {
                self.fields.entry(name.clone()).or_insert(held);
            }
        }
    }

    fn into_net(self, refused: &mut Vec<Refused>) -> Option<Net> {
        if self.is_broken {
            let reason =
                "its changes do not follow each other: some are hidden or gone; undo the last one alone";
            let reason = Reason::new("incomplete", reason);
            refused.push(reason.of(&self.table, &self.changes, &self.key_after));
            return None;
        }
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
                (Effect::Updated { before, after }, self.last_at)
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
