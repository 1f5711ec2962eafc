//! The order of the changes of one key within one transaction.
//!
//! It is that of their positions, but for one case: where a trigger of the host's changes the row again, the change that it makes is
//! captured before the one that it reacts to. Then what each change started from tells which was first.

use std::cell::Cell;

use super::{
    entry::Change,
    heads::place,
    image::{self, Fields, RowKey},
};

/// Orders that are tried at most; then positions alone count.
const TRIES_MAX: u32 = 5_000;

/// What is under a key.
#[derive(Debug, Clone)]
pub(super) enum State<'c> {
    Unknown,
    Absent,
    Present(&'c Fields),
}

/// What a change does to what is under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A row is there that was not: by an insert, or by an update that gave it this key.
    Arrival,
    Update,
    /// A row is gone.
    Removal,
    /// The row has another key from then on.
    Departure,
}

impl Effect {
    /// Whether a row is under the key after it.
    pub(super) fn is_present(self) -> bool {
        matches!(self, Self::Arrival | Self::Update)
    }

    /// Of a change that is filed under the key, or was under it before. Where keys were erased, both may be the same.
    pub(super) fn of(change: &Change, key: &RowKey) -> Self {
        let was_here = change.key_before.as_deref().and_then(image::key).as_ref() == Some(key);
        let is_here = was_here && image::key(&change.table_pk).as_ref() == Some(key);
        match change.op.as_str() {
            _ if was_here && !is_here => Self::Departure,
            "insert" => Self::Arrival,
            "delete" | "truncate" => Self::Removal,
            _ if change.key_before.is_some() && !was_here => Self::Arrival,
            _ => Self::Update,
        }
    }
}

struct Step {
    effect: Effect,
    after: Fields,
    /// The values before of the columns that it changed.
    changed: Option<Fields>,
    /// The whole row before it.
    before: Option<Fields>,
}

impl Step {
    fn new(change: &Change, key: &RowKey) -> Self {
        let after = change.data_after.as_deref().map(image::fields).unwrap_or_default();
        let changed = change.changed_from.as_deref().map(image::fields);
        let is_whole = |changed: &Fields| {
            change
                .changed_fields
                .as_ref()
                .is_some_and(|fields| fields.iter().all(|field| changed.contains_key(field)))
        };
        let before = match &change.data_before {
            Some(image) => Some(image::fields(image)),
            None => changed.as_ref().filter(|changed| is_whole(changed)).map(|changed| {
                let mut before = after.clone();
                before.extend(changed.clone());
                before
            }),
        };
        Self { effect: Effect::of(change, key), after, changed, before }
    }

    /// Whether it can be what happened next. A strict reading has the whole row agree; columns that are not captured may not.
    fn follows(&self, state: &State<'_>, is_strict: bool) -> bool {
        match (self.effect, state) {
            (_, State::Unknown) | (Effect::Arrival, State::Absent) => true,
            (Effect::Arrival, State::Present(_)) | (_, State::Absent) => false,
            (Effect::Update | Effect::Removal | Effect::Departure, State::Present(image)) => {
                let expected = if is_strict { self.before.as_ref() } else { self.changed.as_ref() };
                expected.is_none_or(|expected| agrees(expected, image))
            }
        }
    }

    fn leaves(&self) -> State<'_> {
        match self.effect {
            Effect::Arrival | Effect::Update => State::Present(&self.after),
            Effect::Removal | Effect::Departure => State::Absent,
        }
    }
}

/// Whether an image has these values; a column that it does not have is no contradiction.
fn agrees(expected: &Fields, image: &Fields) -> bool {
    expected.iter().all(|(column, value)| image.get(column).is_none_or(|is| is.get() == value.get()))
}

/// Changes of a key, the oldest first, transaction by transaction: what one leaves is what the next begins with. `before` is what was
/// there before all of them, where it is known.
pub(super) fn replay(changes: Vec<Change>, before: Option<&Change>, key: &RowKey) -> Vec<Change> {
    let mut ordered: Vec<Change> = Vec::with_capacity(changes.len());
    for group in transactions(changes) {
        let sorted = sort(group, ordered.last().or(before), key);
        ordered.extend(sorted);
    }
    ordered
}

/// Changes by their transactions, the oldest first.
fn transactions(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    changes.sort_by_key(|change| std::cmp::Reverse(place(change)));
    let mut groups: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match groups.iter_mut().find(|group| group[0].transaction_id == change.transaction_id) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    groups.reverse();
    groups
}

/// The changes of a key in one transaction, in the order in which they happened; `before` is the last one of those before.
fn sort(mut changes: Vec<Change>, before: Option<&Change>, key: &RowKey) -> Vec<Change> {
    changes.sort_by_key(place);
    if changes.len() < 2 {
        return changes;
    }
    let steps: Vec<Step> = changes.iter().map(|change| Step::new(change, key)).collect();
    let before = before.map(|change| Step::new(change, key));
    let start = before.as_ref().map_or(State::Unknown, Step::leaves);
    let search = |is_strict: bool| Search { steps: &steps, is_strict, tries: Cell::new(0) };
    let known = match start {
        State::Unknown => None,
        _ => search(true).order(&start).or_else(|| search(false).order(&start)),
    };
    // Where it is not known what was there: the order of positions if it can be, or else an insert is first.
    let by_position = || search(true).is_possible().then(|| (0..steps.len()).collect());
    let order = known.or_else(by_position).or_else(|| {
        [(State::Absent, true), (State::Unknown, true), (State::Absent, false), (State::Unknown, false)]
            .into_iter()
            .find_map(|(start, is_strict)| search(is_strict).order(&start))
    });
    match order {
        Some(order) => {
            let mut changes: Vec<Option<Change>> = changes.into_iter().map(Some).collect();
            order.into_iter().filter_map(|index| changes[index].take()).collect()
        }
        None => changes,
    }
}

/// A search for an order in which each change can follow the one before it; that of positions is tried first.
struct Search<'s> {
    steps: &'s [Step],
    is_strict: bool,
    tries: Cell<u32>,
}

impl Search<'_> {
    /// Whether the order of positions can be what happened, whatever was there before.
    fn is_possible(&self) -> bool {
        let mut state = State::Unknown;
        self.steps.iter().all(|step| {
            let follows = step.follows(&state, self.is_strict);
            state = step.leaves();
            follows
        })
    }

    fn order(&self, start: &State<'_>) -> Option<Vec<usize>> {
        let mut order = Vec::with_capacity(self.steps.len());
        self.go_on(start, &mut order).then_some(order)
    }

    fn go_on(&self, state: &State<'_>, order: &mut Vec<usize>) -> bool {
        if order.len() == self.steps.len() {
            return true;
        }
        for (index, step) in self.steps.iter().enumerate() {
            if order.contains(&index) {
                continue;
            }
            self.tries.set(self.tries.get() + 1);
            if self.tries.get() > TRIES_MAX {
                return false;
            }
            if step.follows(state, self.is_strict) {
                order.push(index);
                if self.go_on(&step.leaves(), order) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }
}
