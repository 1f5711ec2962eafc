//! Who set what stands in a row.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use super::{
    AsOf, At, Followed, ReadError, Reader, Row,
    entry::{Change, Json},
    events::Event,
    history::{Part, cursor_of},
    image::{self, Fields, RowKey},
    lineage::Segment,
    order::{self, Effect},
    reading::Reading,
};

/// Changes that are visited at most.
pub const BLAMED_MAX: usize = 10_000;

/// Changes that are read at once.
const AT_ONCE: i64 = 200;

/// Each column of a row, and the change that set it last.
#[derive(Debug, Clone, Serialize)]
pub struct Blame {
    /// The row, under the key that it has.
    pub row: Row,
    /// What it is. Of a row that was deleted, columns are those that it had last.
    pub as_of: AsOf,
    /// Its columns, in the order of their names.
    pub columns: Vec<BlamedColumn>,
    /// The changes that set them, with their transactions and actions; the newest first.
    pub changes: Vec<Change>,
    /// Whether every column was followed to the change that set it, or to the first one that is known. Of a row with more than
    /// [`BLAMED_MAX`] changes, older ones are not visited.
    pub is_complete: bool,
}

/// A column, and what set it.
#[derive(Debug, Clone, Serialize)]
pub struct BlamedColumn {
    /// Its name.
    pub name: String,
    /// What stands in it.
    pub value: Json,
    /// Whether it is null in SQL although of type `json` or `jsonb`.
    pub is_sql_null: bool,
    /// The change that set it, one of [`Blame::changes`]: an insert, an update that names it, or one that shows another value than the
    /// change before, as of columns that a policy excepts. `None` where it is unknown, since it was set before anything was captured, or
    /// by no change of the row, such as the default of a column that was added.
    pub change: Option<Uuid>,
}

impl Blame {
    /// The change that set a column.
    #[must_use]
    pub fn change_of(&self, column: &str) -> Option<&Change> {
        let id = self.columns.iter().find(|blamed| blamed.name == column)?.change?;
        self.changes.iter().find(|change| change.id == id)
    }
}

impl Reader {
    /// For each column of a row, as it was at a time, the change that set it last: from the insert on, across changes of its key.
    ///
    /// # Errors
    /// What the database says.
    pub async fn blame(&self, row: &Row, at: &At) -> Result<Blame, ReadError> {
        let mut reading = Reading::begin(self, None).await?;
        let as_of = reading.as_of(row, at).await?;
        reading.blame(row, at, as_of).await
    }

    /// The same, where it has been read what the row was at this time. What was captured meanwhile does not count.
    ///
    /// # Errors
    /// What the database says.
    pub async fn blame_of(&self, followed: &Followed, at: &At) -> Result<Blame, ReadError> {
        let mut reading = Reading::begin(self, None).await?;
        reading.blame(&followed.row, at, followed.as_of.clone()).await
    }
}

/// What has been found so far, from the newest change to older ones.
struct Search {
    image: Option<Fields>,
    sql_nulls: Vec<String>,
    /// Columns of which it is not known yet.
    open: BTreeSet<String>,
    found: BTreeMap<String, Uuid>,
    changes: Vec<Change>,
    /// The change before this one is to be compared with it.
    newer: Option<(Change, Fields)>,
    is_complete: bool,
}

/// What comes after a change in the search.
enum Next {
    Older,
    /// The row had another key before.
    OtherKey(Box<Change>),
    End,
}

impl Search {
    fn new(as_of: &AsOf) -> Self {
        let mut search = Self {
            image: None,
            sql_nulls: Vec::new(),
            open: BTreeSet::new(),
            found: BTreeMap::new(),
            changes: Vec::new(),
            newer: None,
            is_complete: true,
        };
        match as_of {
            AsOf::Present { image, sql_nulls, .. } => search.begin(image, sql_nulls.clone()),
            AsOf::Deleted { change } => {
                if let Some(image) = &change.data_before {
                    search.begin(image, change.json_nulls.clone().unwrap_or_default().into());
                }
            }
            _ => {}
        }
        search
    }

    fn begin(&mut self, image: &Json, sql_nulls: Vec<String>) {
        let image = image::fields(image);
        self.open = image.keys().cloned().collect();
        self.image = Some(image);
        self.sql_nulls = sql_nulls;
    }

    /// The next older change of the row, which has this key.
    fn visit(&mut self, change: Change, key: &RowKey) -> Next {
        let is_present = Effect::of(&change, key).is_present();
        let Some(after) = change.data_after.as_ref().filter(|_| is_present) else {
            // A row that came after another one begins with its insert; where that is missing, here.
            return if self.newer.is_some() { Next::End } else { Next::Older };
        };
        if self.image.is_none() {
            self.begin(after, change.json_nulls.clone().unwrap_or_default().into());
        }
        let after = image::fields(after);
        self.compare(&after);
        let is_first = change.op == "insert";
        let changed = change.changed_fields.clone().unwrap_or_default();
        let set: Vec<String> = self
            .open
            .iter()
            .filter(|column| if is_first { after.contains_key(*column) } else { changed.contains(column) })
            .cloned()
            .collect();
        self.assign(set, &change);
        let next = match image::key_before(&change) {
            _ if is_first || self.open.is_empty() => Next::End,
            Some(_) => Next::OtherKey(Box::new(change.clone())),
            None => Next::Older,
        };
        self.newer = Some((change, after));
        next
    }

    /// Columns that do not count as changed, such as those excepted by a policy, differ without being named.
    fn compare(&mut self, older: &Fields) {
        let Some((change, newer)) = self.newer.take() else { return };
        let differs = |column: &&String| match (newer.get(*column), older.get(*column)) {
            (Some(newer), Some(older)) => newer.get() != older.get(),
            _ => false,
        };
        let set: Vec<String> = self.open.iter().filter(differs).cloned().collect();
        self.assign(set, &change);
        // What was not there yet, was added to the table.
        self.open.retain(|column| older.contains_key(column));
    }

    fn assign(&mut self, columns: Vec<String>, change: &Change) {
        if !columns.is_empty() && self.changes.last().is_none_or(|last| last.id != change.id) {
            self.changes.push(change.clone());
        }
        for column in columns {
            self.open.remove(&column);
            self.found.insert(column, change.id);
        }
    }

    fn into_blame(self, row: Row, as_of: AsOf) -> Blame {
        let columns = self
            .image
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| BlamedColumn {
                is_sql_null: self.sql_nulls.contains(&name),
                change: self.found.get(&name).copied(),
                name,
                value,
            })
            .collect();
        Blame { row, as_of, columns, changes: self.changes, is_complete: self.is_complete }
    }
}

impl Reading<'_> {
    async fn blame(&mut self, row: &Row, at: &At, as_of: AsOf) -> Result<Blame, ReadError> {
        let mut search = Search::new(&as_of);
        if matches!(as_of, AsOf::Present { .. } | AsOf::Deleted { .. }) {
            self.search(row, at, &as_of, &mut search).await?;
        }
        Ok(search.into_blame(row.clone(), as_of))
    }

    /// Visits the changes of a row, the newest first, until every column is known.
    async fn search(
        &mut self,
        row: &Row,
        at: &At,
        as_of: &AsOf,
        search: &mut Search,
    ) -> Result<(), ReadError> {
        let mut segment = Segment { has_departures: true, ..Segment::of(row.key.clone()) };
        let (mut cursor, mut waiting, mut visited) = (None, Vec::new(), 0);
        // The change that gave the row its other key, until it is found among those of this one.
        let mut departure: Option<Change> = None;
        // What the transaction did after the change that decides, is not part of the answer.
        let mut decides = as_of.change().filter(|change| change.op != "truncate").map(|change| change.id);
        loop {
            let part = Part {
                is_older: true,
                cursor: cursor.as_ref(),
                ends: (None, None),
                at: Some(at.as_str()),
                begun: None,
                limit: AT_ONCE,
            };
            let changes = self.changes(&row.sources, std::slice::from_ref(&segment), &part).await?;
            let is_last = i64::try_from(changes.len()).is_ok_and(|read| read < AT_ONCE);
            visited += changes.len();
            cursor = changes.last().map(cursor_of).or(cursor);
            waiting.extend(changes);
            let mut next = Next::Older;
            let mut changes = ready(&mut waiting, &segment, is_last);
            if let Some(found) =
                departure.take_if(|departure| changes.iter().any(|one| one.id == departure.id))
            {
                changes = before_departure(changes, &found, &segment.key, is_last);
            }
            for change in changes.into_iter().filter(|_| departure.is_none()) {
                if decides.is_some_and(|id| id != change.id) {
                    continue;
                }
                decides = None;
                next = search.visit(change, &segment.key);
                if !matches!(next, Next::Older) {
                    break;
                }
            }
            match next {
                Next::OtherKey(change) => match before_arrival(*change) {
                    Some((before, change)) => {
                        (segment, cursor, waiting, departure) =
                            (before, None, vec![change.clone()], Some(change));
                    }
                    None => return Ok(()),
                },
                Next::Older if !is_last => {}
                Next::Older | Next::End => return Ok(()),
            }
            if visited >= BLAMED_MAX {
                search.is_complete = false;
                return Ok(());
            }
        }
    }
}

/// Changes that can be put in order, the newest first. Those of the two oldest transactions wait for what was before them, unless
/// there is no more.
fn ready(waiting: &mut Vec<Change>, segment: &Segment, is_last: bool) -> Vec<Change> {
    let mut oldest: Vec<Uuid> = waiting.iter().rev().map(|change| change.transaction_id).collect();
    oldest.dedup();
    oldest.truncate(if is_last { 0 } else { 2 });
    let is_waiting = |change: &Change| oldest.contains(&change.transaction_id);
    if !is_last && waiting.iter().all(is_waiting) {
        return Vec::new();
    }
    let mut ordered = order::replay(waiting.clone(), None, &segment.key);
    waiting.retain(is_waiting);
    ordered.retain(|change| !is_waiting(change));
    ordered.reverse();
    ordered
}

/// Of changes of a key, the newest first, those before the one by which the row left it. In its transaction others can have got the key
/// before that was captured.
fn before_departure(
    mut changes: Vec<Change>,
    departure: &Change,
    key: &RowKey,
    is_last: bool,
) -> Vec<Change> {
    let place = changes.iter().position(|change| change.id == departure.id);
    let mut older = changes.split_off(place.map_or(changes.len(), |place| place + 1));
    let is_other = |change: &Change| {
        change.transaction_id == departure.transaction_id
            && Effect::of(change, key).is_present()
            && !is_before(change, departure)
    };
    let others = older.iter().take_while(|change| is_other(change)).count();
    older.drain(..others);
    if older.is_empty() && is_last {
        // Where a trigger of the host's changes the key, the insert that it reacts to is captured later.
        let is_insert = |change: &Change| {
            change.op == "insert"
                && change.transaction_id == departure.transaction_id
                && is_before(change, departure)
        };
        older.extend(changes.into_iter().find(is_insert));
    }
    older
}

/// Whether a row that a change left can be the one that another change began with.
fn is_before(change: &Change, next: &Change) -> bool {
    let fields = |image: &Option<Json>| image.as_deref().map(image::fields).unwrap_or_default();
    let (left, after, from) =
        (fields(&change.data_after), fields(&next.data_after), fields(&next.changed_from));
    let changed = next.changed_fields.as_deref().unwrap_or_default();
    left.iter().all(|(column, left)| {
        let began = if changed.contains(column) { from.get(column) } else { after.get(column) };
        began.is_none_or(|began| image::is_same(began, left))
    })
}

/// The changes of a row before this one gave it its key; and the change, as one by which the row left that key.
fn before_arrival(change: Change) -> Option<(Segment, Change)> {
    let from = image::key_before(&change)?;
    let event = Event {
        id: change.id,
        transaction_id: change.transaction_id,
        to: image::key(&change.table_pk)?,
        from: from.clone(),
        at: change.captured_at,
        at_text: change.captured_text.clone(),
        position: change.position,
    };
    let departure = Change { key_before: Some(image::key_document(&from)), ..change };
    Some((Segment { high: Some(event), has_departures: true, ..Segment::of(from) }, departure))
}
