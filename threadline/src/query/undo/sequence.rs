//! The order in which statements run: the reverse of that of capture, but where one needs what another one does.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Refused,
    draft::{Action, Draft, Field},
    reason,
    target::{Reference, Target},
};
use crate::{
    capture::HostTable,
    query::{
        Json, canonical,
        row::{RowKey, image},
    },
};

/// One statement before another one, by their numbers.
type Edge = (usize, usize);

/// The drafts in the order in which they can run. Those that wait for one another's keys are refused.
pub(super) fn in_order<'t>(drafts: Vec<Draft<'t>>, refused: &mut Vec<Refused>) -> Vec<Draft<'t>> {
    let (_, stuck) = sorted(drafts.len(), &by_keys(&drafts));
    let mut kept = Vec::with_capacity(drafts.len());
    for (number, draft) in drafts.into_iter().enumerate() {
        if stuck.contains(&number) {
            let reason =
                reason::keys_exchanged("each of some rows has the key that another one is to get back");
            let mut one = reason.of(&draft.target.name, &draft.changes, &draft.key);
            one.changes.reverse();
            refused.push(one);
        } else {
            kept.push(draft);
        }
    }
    let mut edges = by_keys(&kept);
    edges.extend(by_references(&kept));
    // Rows that refer to each other in a circle stay in the order in which they are.
    let (mut order, stuck) = sorted(kept.len(), &edges);
    order.extend(stuck);
    let mut kept: Vec<Option<Draft<'_>>> = kept.into_iter().map(Some).collect();
    order.into_iter().filter_map(|number| kept[number].take()).collect()
}

/// Numbers up to a count with every edge kept, else as they are; and those that wait for one another, or for one that does.
fn sorted(count: usize, edges: &[Edge]) -> (Vec<usize>, BTreeSet<usize>) {
    let mut waits = vec![0_usize; count];
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (first, then) in edges {
        waits[*then] += 1;
        next.entry(*first).or_default().push(*then);
    }
    let mut stuck: BTreeSet<usize> = (0..count).collect();
    let mut ready: BTreeSet<usize> = (0..count).filter(|number| waits[*number] == 0).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(number) = ready.pop_first() {
        stuck.remove(&number);
        order.push(number);
        for then in next.get(&number).into_iter().flatten() {
            waits[*then] -= 1;
            if waits[*then] == 0 {
                ready.insert(*then);
            }
        }
    }
    (order, stuck)
}

/// Whoever gives up a key, before whoever takes it.
fn by_keys(drafts: &[Draft<'_>]) -> Vec<Edge> {
    let given_up = numbered(drafts, |draft| Some((&draft.target.name, draft.gives_up()?)));
    let edge = |(number, draft): (usize, &Draft<'_>)| {
        Some((*given_up.get(&(&draft.target.name, draft.takes()?))?, number))
    };
    drafts.iter().enumerate().filter_map(edge).collect()
}

/// A row that is restored, after the one that it refers to; one that is removed, before it.
fn by_references(drafts: &[Draft<'_>]) -> Vec<Edge> {
    let targets: BTreeMap<&HostTable, &Target> =
        drafts.iter().map(|draft| (&draft.target.name, draft.target)).collect();
    let references =
        targets.values().flat_map(|target| target.references.iter().map(move |one| (target, one)));
    let mut edges = Vec::new();
    for (target, Reference { columns, table, referred }) in references {
        let of =
            |draft: &Draft<'_>| draft.target.name == *table && !matches!(draft.action, Action::Update(_));
        let restored = numbered(drafts, |draft| texts(&draft.restores(), referred).filter(|_| of(draft)));
        let removed = numbered(drafts, |draft| texts(&draft.removes(), referred).filter(|_| of(draft)));
        for (number, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.target.name == target.name)
        {
            let first = texts(&draft.restores(), columns).and_then(|key| restored.get(&key));
            let then = texts(&draft.removes(), columns).and_then(|key| removed.get(&key));
            edges.extend(first.map(|first| (*first, number)));
            edges.extend(then.map(|then| (number, *then)));
        }
    }
    edges.retain(|(first, then)| first != then);
    edges
}

/// The numbers of drafts by what they have.
fn numbered<'d, 't, K: Ord>(
    drafts: &'d [Draft<'t>],
    key: impl Fn(&'d Draft<'t>) -> Option<K>,
) -> BTreeMap<K, usize> {
    drafts.iter().enumerate().filter_map(|(number, draft)| Some((key(draft)?, number))).collect()
}

/// What columns hold, as texts; nothing where one of them is null or not there.
fn texts(image: &BTreeMap<String, Json>, columns: &[String]) -> Option<Vec<String>> {
    columns.iter().map(|column| image::text_of(image.get(column)?)).collect()
}

impl Draft<'_> {
    /// The values that it gives a row.
    fn restores(&self) -> BTreeMap<String, Json> {
        let value = |field: &Field| Some((field.name.clone(), field.value.document()?.clone()));
        self.fields().iter().filter_map(value).collect()
    }

    /// Values that a row has no longer after it.
    fn removes(&self) -> BTreeMap<String, Json> {
        let now = |field: &Field| Some((field.name.clone(), field.now.document()?.clone()));
        match &self.action {
            Action::Delete { image, .. } => canonical::members(image),
            Action::Update(fields) => fields.iter().filter_map(now).collect(),
            Action::Insert(_) => BTreeMap::new(),
        }
    }

    /// The key that a row has after it, and had not before.
    fn takes(&self) -> Option<RowKey> {
        let mut key = image::key(&self.key)?;
        match &self.action {
            Action::Insert(_) => Some(key),
            Action::Update(_) => {
                let restored = self.restores();
                let moved: RowKey = (restored.iter().filter(|(name, _)| key.contains_key(*name)))
                    .filter_map(|(name, value)| Some((name.clone(), image::text_of(value)?)))
                    .collect();
                let has_moved = !moved.is_empty();
                key.extend(moved);
                has_moved.then_some(key)
            }
            Action::Delete { .. } => None,
        }
    }

    /// The key that no row has after it.
    fn gives_up(&self) -> Option<RowKey> {
        let is_given_up = matches!(self.action, Action::Delete { .. })
            || (self.takes().is_some() && !matches!(self.action, Action::Insert(_)));
        image::key(&self.key).filter(|_| is_given_up)
    }
}
