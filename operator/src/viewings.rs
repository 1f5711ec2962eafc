//! Who has looked at what, recorded now and then.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;
use threadline::{Action, ActorRef, Timeline, query::Filter};

use crate::{Surface, pairs::Pairs};

/// How long a page waits until it is recorded that somebody looks at it.
const WAIT: Duration = Duration::from_secs(2);

/// What was recorded a while ago at most.
#[derive(Debug)]
pub(crate) struct Viewings {
    every: Duration,
    /// Where it is recorded.
    timeline: Timeline,
    recorded: Mutex<HashMap<(String, Surface), Instant>>,
}

impl Viewings {
    pub(crate) fn new(every: Duration, timeline: Timeline) -> Self {
        Self { every, timeline, recorded: Mutex::default() }
    }

    /// Records that an actor has looked at a place, where that was not recorded a moment ago.
    pub(crate) async fn record(&self, actor: ActorRef, surface: Surface, query: &str) {
        let key = (actor.to_string(), surface);
        if !self.is_due(&key, Instant::now()) {
            return;
        }
        let place = format!("{surface:?}").to_lowercase();
        let comment = json!({"surface": place, "filter_blake3": digest(query)});
        let action =
            Action::new("audit.viewed", actor).verb("view").category("audit").comment(comment.to_string());
        let why = match tokio::time::timeout(WAIT, self.timeline.record(action)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => errors::line(&error),
            Err(_) => "it took too long".to_owned(),
        };
        self.take_back(&key);
        tracing::error!(error = %why, "it could not be recorded that somebody has looked at the timeline");
    }

    /// Whether it is to be recorded that this actor looks there; it counts as recorded then.
    fn is_due(&self, key: &(String, Surface), now: Instant) -> bool {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|_, at| now.saturating_duration_since(*at) < self.every);
        if recorded.contains_key(key) {
            return false;
        }
        recorded.insert(key.clone(), now);
        true
    }

    fn take_back(&self, key: &(String, Surface)) {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Of the filter in its canonical form, whatever order its words were given in; of what is no filter, of the query.
fn digest(query: &str) -> String {
    match Pairs::read(query.as_bytes()).filter() {
        Ok(filter) => digest_of(&filter),
        Err(_) => blake3::hash(query.as_bytes()).to_hex().to_string(),
    }
}

/// What actions hold in place of a filter, which may name somebody: what is erased does not stay in them.
pub(crate) fn digest_of(filter: &Filter) -> String {
    blake3::hash(filter.to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use threadline::StorageSchema;

    use super::*;

    #[tokio::test]
    async fn an_actor_is_recorded_once_in_a_while_at_each_place() {
        let pool = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
        let viewings = Viewings::new(Duration::from_secs(60), Timeline::new(pool, StorageSchema::default()));
        let (one, other) = (("user:u1".to_owned(), Surface::Timeline), ("user:u1".to_owned(), Surface::Row));
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(viewings.is_due(&one, at(0)) && viewings.is_due(&other, at(30)));
        assert!(!viewings.is_due(&one, at(59)));
        assert!(viewings.is_due(&one, at(60)) && !viewings.is_due(&other, at(89)));
        viewings.take_back(&one);
        assert!(viewings.is_due(&one, at(89)));
    }

    #[test]
    fn the_digest_is_of_the_filter_and_of_no_order_or_page() {
        assert_eq!(digest("table=posts&op=update&size=5"), digest("op=update&table=posts"));
        assert_ne!(digest("table=posts"), digest("table=users"));
        assert_ne!(digest("run=1"), digest("run=2"));
    }
}
