//! What a purge says of itself: counts, and nothing of a row.

use sandbox::heard::Heard;
use threadline::retention::Policy;

use super::{DAY, host, options, ten_days};

#[tokio::test]
async fn events_say_how_much_and_never_what() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY), (2, "public.posts", 20 * DAY), (2, "public.posts", DAY)])
        .await?;
    let (heard, _listening) = Heard::of("threadline.retention");
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
            "threadline.retention.purge.start dry_run=true",
            "threadline.retention.purge.stop deleted_changes=2 deleted_transactions=1 batches_run=0 duration_ms=_ dry_run=true"
        ]
    );
    host.timeline.purge(&policy, &one(false)).await?;
    assert_eq!(
        taken(),
        [
            "threadline.retention.purge.start dry_run=false",
            "threadline.retention.batch_purged deleted_changes=1 deleted_transactions=1 batches_run=1 duration_ms=_ dry_run=false",
            "threadline.retention.batch_purged deleted_changes=1 deleted_transactions=0 batches_run=2 duration_ms=_ dry_run=false",
            "threadline.retention.purge.stop deleted_changes=2 deleted_transactions=1 batches_run=2 duration_ms=_ dry_run=false",
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
        [
            "threadline.retention.purge.start dry_run=false",
            "threadline.retention.purge.exception error=\"database\" duration_ms=_ dry_run=false"
        ],
        "nothing is said of a batch before its commit"
    );
    Ok(())
}
