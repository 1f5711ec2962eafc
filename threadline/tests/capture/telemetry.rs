//! What an audited transaction says of itself.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::audited::{audited, insert, user};

/// Everything that the library says, with its fields.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut heard = self.0.lock().unwrap();
        write!(heard.last_mut().unwrap(), " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("threadline")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().name().to_owned());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn events_are_emitted_after_the_commit_alone_and_hold_nothing_of_the_data() -> anyhow::Result<()> {
    let host = audited().await?;
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let transaction = || {
        host.timeline
            .transaction(threadline::AuditContext::of(user()).correlation_id("c1"))
            .action(threadline::Action::new("post.created", user()).reason("because"))
            .meta(json!({"k": 1}).as_object().unwrap().clone())
    };
    let failed = transaction()
        .run(async |connection| {
            insert(connection, 1).await.unwrap();
            Err::<(), _>("not today")
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(*heard.0.lock().unwrap(), Vec::<String>::new());
    transaction().run(async |connection| insert(connection, 1).await).await?;
    assert_eq!(
        *heard.0.lock().unwrap(),
        ["threadline.action.recorded status=\"ok\"", "threadline.transaction.committed captured=true"]
    );
    Ok(())
}
