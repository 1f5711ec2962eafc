//! A receipt is there whole or not at all, whoever dies and whoever else seals.

use std::{process::Stdio, time::Duration};

use sandbox::wait;
use sqlx::Executor as _;
use threadline::receipts::{Trust, seal};

use super::{Host, command};

const DEADLINE: Duration = Duration::from_secs(60);

/// That somebody's insert waits for ours.
async fn until_waiting(host: &mut Host) -> anyhow::Result<()> {
    wait::until_some("the sealer to wait", DEADLINE, async || {
        let waiting = host
            .count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
            .await?;
        Ok((waiting > 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_is_killed_in_the_middle_leaves_nothing() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v) select n from generate_series(1, 20000) n").await?;
    let empty = host.seal().await?.n;
    host.run("insert into t (v) select n from generate_series(1, 20000) n").await?;
    // It stops at its third part, behind two that it has written.
    let mut other = host.database.connect().await?;
    other.execute("begin; insert into threadline_receipt_leaves values (2, 2, '')").await?;
    let mut sealer =
        command(&host.database.url, &["seal"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until_waiting(&mut host).await?;
    sealer.kill()?;
    sealer.wait()?;
    other.execute("rollback").await?;
    wait::until_some("the server to end its session", DEADLINE, async || {
        let left = host
            .count("pg_stat_activity where datname = current_database() and application_name = 'threadline'")
            .await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    assert_eq!((empty, host.count("threadline_receipts").await?), (1, 1));
    assert_eq!(host.count("threadline_receipt_leaves where n = 2").await?, 0);
    let next = host.seal().await?;
    assert_eq!((next.n, next.changes), (2, 20_000));
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sealers_one_is_refused_and_says_so() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v) values (1)").await?;
    let mut other = host.database.connect().await?;
    other.execute("begin; insert into threadline_receipt_leaves values (1, 0, '')").await?;
    let timeline = host.timeline.clone();
    let second = tokio::spawn(async move { seal(&timeline, None, |_| {}).await });
    until_waiting(&mut host).await?;
    other.execute("commit").await?;
    let refused = second.await?.unwrap_err();
    assert_eq!(refused.term(), Some("sealed_elsewhere"), "{refused}");
    other.execute("delete from threadline_receipt_leaves").await?;
    // Whoever does not end is not waited for.
    other.execute("begin; insert into threadline_receipt_leaves values (1, 0, '')").await?;
    let refused = seal(&host.timeline, None, |_| {}).await.unwrap_err();
    assert_eq!(refused.term(), Some("sealed_elsewhere"), "{refused}");
    assert!(refused.to_string().contains("is writing receipt 1"), "{refused}");
    other.execute("rollback").await?;
    assert_eq!(host.seal().await?.n, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sealers_beside_each_other_make_one_chain() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let sealers: Vec<_> = (0..4)
        .map(|_| {
            let timeline = host.timeline.clone();
            tokio::spawn(async move {
                let mut written = 0;
                for _ in 0..15 {
                    match seal(&timeline, None, |_| {}).await {
                        Ok(_) => written += 1,
                        Err(error) if error.term() == Some("sealed_elsewhere") => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(written)
            })
        })
        .collect();
    for n in 0..60 {
        host.run(format!("insert into t (v) values ({n})")).await?;
    }
    let mut written = 0;
    for sealer in sealers {
        written += sealer.await??;
    }
    assert_eq!(host.count("threadline_receipts").await?, written);
    host.seal().await?;
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    assert_eq!((found.compared.changes, found.pending.rows()), (60, 0));
    Ok(())
}
