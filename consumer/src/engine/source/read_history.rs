//! What the workers of one forwarder know of earlier reads from the source.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::{LoadedRow, Unreadable};

/// So many reads take turns after one that the server has failed in.
const READS_IN_TURN: u32 = 20;

/// What the workers of one forwarder know of earlier reads from the source.
#[derive(Debug, Clone, Default)]
pub struct ReadHistory(Arc<Mutex<History>>);

/// So many isolated rows are remembered; beyond, a row is read again for its batch.
const ISOLATED_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct History {
    readable: Option<Uuid>,
    reads_in_turn: u32,
    isolated: HashMap<Uuid, Unreadable>,
}

impl ReadHistory {
    /// A row that could be read: read again where another one fails in a way that may be the server's own.
    pub(super) fn readable(&self) -> Option<Uuid> {
        self.history().readable
    }

    /// That row is gone.
    pub(super) fn clear_readable(&self) {
        self.history().readable = None;
    }

    /// These rows were read.
    pub(super) fn record(&self, loaded: &[LoadedRow]) {
        let mut history = self.history();
        history.reads_in_turn = history.reads_in_turn.saturating_sub(1);
        if let Some(row) = loaded.iter().find(|row| row.event.is_ok()) {
            history.readable = Some(row.id);
        }
    }

    /// The server has failed in a read. A row may be the cause, and others as well, in other workers' hands: they take turns from
    /// now on, because each of them would take what another one's row does for an effect of its own.
    pub(super) fn server_failed(&self) {
        self.history().reads_in_turn = READS_IN_TURN;
    }

    /// Whether reads take turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.history().reads_in_turn > 0
    }

    /// This row makes the server fail, or takes too long. Its batch may have to begin again; the row is not read again for that,
    /// as long as not too many are remembered.
    pub(super) fn isolate(&self, id: Uuid, unreadable: Unreadable) {
        let isolated = &mut self.history().isolated;
        if isolated.len() < ISOLATED_MAX {
            isolated.insert(id, unreadable);
        }
    }

    /// Those of these rows that were isolated, with what is known of them.
    pub(super) fn isolated(&self, ids: &[Uuid]) -> Vec<(Uuid, Unreadable)> {
        let history = self.history();
        let known = |id: &Uuid| Some((*id, history.isolated.get(id)?.clone()));
        if history.isolated.is_empty() { Vec::new() } else { ids.iter().filter_map(known).collect() }
    }

    /// What is known of these rows has been recorded: each is read again when it is redelivered.
    pub(crate) fn settled(&self, ids: impl Iterator<Item = Uuid>) {
        let isolated = &mut self.history().isolated;
        if !isolated.is_empty() {
            ids.for_each(|id| drop(isolated.remove(&id)));
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
