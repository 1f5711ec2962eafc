//! Leases: one process of several, by the database's clock.

use sqlx::Executor as _;
use threadline::lease::Lease;

use super::host;

#[tokio::test]
async fn a_lease_is_one_holders_until_it_expires_or_is_given_back() -> anyhow::Result<()> {
    let mut host = host().await?;
    let storage = host.timeline.schema().clone();
    let (one, two) = (Lease::new("work"), Lease::new("work"));
    assert_ne!(one.holder(), two.holder());
    let until = one.take(&mut host.connection, &storage).await?.unwrap();
    let held = two.take(&mut host.connection, &storage).await?.unwrap_err();
    assert_eq!((held.holder.as_str(), held.until), (one.holder(), until));
    assert!(Lease::new("other").take(&mut host.connection, &storage).await?.is_ok());
    assert!(one.renew(&mut host.connection, &storage).await?.is_some_and(|later| later > until));
    assert_eq!(two.renew(&mut host.connection, &storage).await?, None);
    // What is not theirs stays.
    two.release(&mut host.connection, &storage).await?;
    assert!(two.take(&mut host.connection, &storage).await?.is_err());
    one.release(&mut host.connection, &storage).await?;
    assert!(two.take(&mut host.connection, &storage).await?.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_lease_that_has_expired_or_was_written_by_a_wrong_clock_is_free() -> anyhow::Result<()> {
    let mut host = host().await?;
    let storage = host.timeline.schema().clone();
    for until in
        ["clock_timestamp() - interval '1 second'", "clock_timestamp() + interval '3 minutes'", "'infinity'"]
    {
        let (one, two) = (Lease::new("work"), Lease::new("work"));
        one.take(&mut host.connection, &storage).await?.unwrap();
        host.connection
            .execute(sqlx::AssertSqlSafe(format!("update threadline_leases set until = {until}")))
            .await?;
        assert!(two.take(&mut host.connection, &storage).await?.is_ok(), "{until}");
        assert_eq!(one.renew(&mut host.connection, &storage).await?, None, "{until}");
        two.release(&mut host.connection, &storage).await?;
    }
    Ok(())
}
