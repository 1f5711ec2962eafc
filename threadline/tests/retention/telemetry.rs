//! What a purge says of itself: counts, and nothing of a row.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
};

use threadline::retention::Policy;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{DAY, host, options, ten_days};

/// Every event of retention, with its fields but for how long something took.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// What was heard since it was asked last.
    pub(super) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut heard = self.0.lock().unwrap();
        if field.name() != "duration_ms" {
            write!(heard.last_mut().unwrap(), " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name().starts_with("threadline.retention")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let name = event.metadata().name().trim_start_matches("threadline.retention.");
        self.0.lock().unwrap().push(name.to_owned());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn events_say_how_much_and_never_what() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY), (2, "public.posts", 20 * DAY), (2, "public.posts", DAY)])
        .await?;
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let taken = || heard.taken();
    let one = |is_dry: bool| options(|options| (options.batch_size, options.dry_run) = (1, is_dry));
    let policy: Policy = ten_days();
    host.timeline.purge(&policy.clone().enabled(false), &one(false)).await.unwrap_err();
    host.timeline.purge(&policy, &options(|options| options.batch_size = 0)).await.unwrap_err();
    assert_eq!(taken(), Vec::<String>::new(), "what does not begin says nothing");
    host.timeline.purge(&policy, &one(true)).await?;
    assert_eq!(
        taken(),
        [
            "purge.start dry_run=true",
            "purge.stop deleted_changes=2 deleted_transactions=1 batches_run=0 dry_run=true"
        ]
    );
    host.timeline.purge(&policy, &one(false)).await?;
    assert_eq!(
        taken(),
        [
            "purge.start dry_run=false",
            "batch_purged deleted_changes=1 deleted_transactions=1 batches_run=1 dry_run=false",
            "batch_purged deleted_changes=1 deleted_transactions=0 batches_run=2 dry_run=false",
            "purge.stop deleted_changes=2 deleted_transactions=1 batches_run=2 dry_run=false",
        ]
    );
    host.record(&[(3, "public.posts", 20 * DAY)]).await?;
    host.connection
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
             create trigger refuse before delete on audit_changes for each row execute function refuse()",
        )
        .await?;
    host.timeline.purge(&policy, &one(false)).await.unwrap_err();
    assert_eq!(
        taken(),
        ["purge.start dry_run=false", "purge.exception error=\"database\" dry_run=false"],
        "nothing is said of a batch before its commit"
    );
    Ok(())
}
