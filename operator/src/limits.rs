//! What everything takes at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use threadline::{
    ActorRef,
    telemetry::{OperatorTurn, operator_turn_began, operator_turn_ended, operator_was_busy},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much the surface takes at most, so that somebody who looks disturbs nobody who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections for reading.
    pub connections: u32,
    /// Requests of one actor that are answered at a time, pages of theirs that follow, and files that are handed to them: as many of each. Further
    /// ones are told to try again.
    pub per_actor: usize,
    /// Pages that follow the timeline at a time.
    pub tails: usize,
    /// Files and exports that are handed out at a time.
    pub downloads: usize,
    /// A statement, on the server.
    pub statement: Duration,
    /// The host's answer to who may see what.
    pub authorize: Duration,
    /// A request from its beginning to its end.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            per_actor: 4,
            tails: 20,
            downloads: 4,
            statement: Duration::from_secs(3),
            authorize: Duration::from_secs(5),
            request: Duration::from_secs(15),
        }
    }
}

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// What is done at a time: so much of it in all, and so much of it for one actor, that nobody keeps the others from theirs.
#[derive(Debug)]
pub(crate) struct Turns {
    kind: OperatorTurn,
    per_actor: usize,
    all: Arc<Semaphore>,
    actors: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The right to do it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    kind: OperatorTurn,
    _actor: OwnedSemaphorePermit,
    _one_of_all: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        operator_turn_ended(self.kind);
    }
}

impl Turns {
    pub(crate) fn new(kind: OperatorTurn, all: usize, per_actor: usize) -> Self {
        Self { kind, per_actor, all: Arc::new(Semaphore::new(all)), actors: Mutex::default() }
    }

    /// Waits for a turn; none where it does not come in time.
    pub(crate) async fn take(&self, actor: &ActorRef) -> Option<Turn> {
        let actor = self.of(actor);
        let both = async {
            Some((actor.acquire_owned().await.ok()?, Arc::clone(&self.all).acquire_owned().await.ok()?))
        };
        self.turn(tokio::time::timeout(TURN, both).await.ok().flatten())
    }

    /// A turn, if there is one now.
    pub(crate) fn try_take(&self, actor: &ActorRef) -> Option<Turn> {
        let both = || {
            Some((self.of(actor).try_acquire_owned().ok()?, Arc::clone(&self.all).try_acquire_owned().ok()?))
        };
        self.turn(both())
    }

    fn turn(&self, permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>) -> Option<Turn> {
        let Some((actor, one_of_all)) = permits else {
            operator_was_busy(self.kind);
            return None;
        };
        operator_turn_began(self.kind);
        Some(Turn { kind: self.kind, _actor: actor, _one_of_all: one_of_all })
    }

    fn of(&self, actor: &ActorRef) -> Arc<Semaphore> {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is remembered who asks for nothing.
        actors.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns =
            actors.entry(actor.to_string()).or_insert_with(|| Arc::new(Semaphore::new(self.per_actor)));
        Arc::clone(turns)
    }
}
