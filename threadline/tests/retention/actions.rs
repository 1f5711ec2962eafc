//! Which actions go.

use sqlx::Executor as _;
use threadline::retention::Keep;

use super::{DAY, counts, host, options, ten_days};

const ACTIONS: &str = "
    insert into audit_actions (id, name, actor_ref, status, inserted_at) values
        ('a0000000-0000-4000-8000-000000000001', 'old.alone', '{}', 'ok', now() - interval '20 days'),
        ('a0000000-0000-4000-8000-000000000002', 'old.linked', '{}', 'ok', now() - interval '20 days'),
        ('a0000000-0000-4000-8000-000000000003', 'old.purged', '{}', 'ok', now() - interval '20 days'),
        ('a0000000-0000-4000-8000-000000000004', 'young', '{}', 'ok', now() - interval '9 days'),
        ('a0000000-0000-4000-8000-000000000005', 'threadline.capture.disabled', '{}', 'ok', now() - interval '20 days'),
        ('a0000000-0000-4000-8000-000000000006', 'endless', '{}', 'ok', 'infinity');
    update audit_transactions set action_id = 'a0000000-0000-4000-8000-000000000002' where txid = 1;
    update audit_transactions set action_id = 'a0000000-0000-4000-8000-000000000003' where txid = 2";

#[tokio::test]
async fn an_action_goes_when_it_is_old_and_no_kept_transaction_is_linked_to_it() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 5 * DAY), (2, "public.posts", 20 * DAY)]).await?;
    host.connection.execute(ACTIONS).await?;
    let names = "select name from audit_actions where name <> 'audit.purged' order by name";
    let policy = ten_days().actions(Keep::days(10)?);
    for is_dry in [true, false] {
        let once = options(|options| (options.dry_run, options.batch_size) = (is_dry, 2));
        let purged = host.timeline.purge(&policy, &once).await?;
        let (changes, transactions, actions, _) = counts(&purged);
        assert_eq!((changes, transactions, actions, purged.kept_actions), (1, 1, 2, 2), "dry run: {is_dry}");
    }
    let left: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut host.connection).await?;
    assert_eq!(left, ["endless", "old.linked", "threadline.capture.disabled", "young"]);
    let linked = "select count(*) from audit_transactions where action_id is not null";
    assert_eq!(sqlx::query_scalar::<_, i64>(linked).fetch_one(&mut host.connection).await?, 1);
    Ok(())
}

#[tokio::test]
async fn actions_stay_where_the_policy_says_nothing_of_them() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection.execute(ACTIONS).await?;
    assert_eq!(counts(&host.purge(&ten_days()).await?), (0, 0, 0, 0));
    assert_eq!(counts(&host.purge(&ten_days().actions(Keep::Forever)).await?), (0, 0, 0, 0));
    // And what the two purges have left of themselves.
    assert_eq!(host.count("audit_actions").await?, 8);
    Ok(())
}

/// Of the two that link at the same time, one after the other: the key of the link makes the later one wait, or repeats the batch.
#[tokio::test]
async fn an_action_that_somebody_links_meanwhile_is_kept() -> anyhow::Result<()> {
    use sqlx::Connection as _;
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 5 * DAY)]).await?;
    host.connection.execute(ACTIONS.split("update audit_transactions").next().unwrap_or_default()).await?;
    let mut writer = host.database.connect().await?;
    let mut linking = writer.begin().await?;
    linking
        .execute(
            "update audit_transactions set action_id = 'a0000000-0000-4000-8000-000000000001' where txid = 1",
        )
        .await?;
    let policy = ten_days().actions(Keep::days(10)?);
    assert_eq!(counts(&host.purge(&policy).await?).2, 2);
    linking.commit().await?;
    let purged = host.purge(&policy).await?;
    assert_eq!((purged.deleted_actions, purged.kept_actions), (0, 2));
    Ok(())
}
