//! The newest receipts alone are compared: what is older, and what nobody sealed, is left to whoever compares everything.

use std::time::Duration;

use threadline::receipts::{Trust, Verification, verify_newest};

use super::{Host, terms};

/// Three receipts, each over a row of the table.
async fn sealed() -> anyhow::Result<Host> {
    let mut host = Host::new().await?;
    for v in 1..=3 {
        host.run(format!("insert into t (v) values ({v})")).await?;
        host.seal().await?;
    }
    Ok(host)
}

async fn newest(host: &Host, receipts: u32) -> anyhow::Result<Verification> {
    Ok(verify_newest(&host.timeline, &Trust::nothing(), receipts, Duration::from_secs(10)).await?)
}

#[tokio::test]
async fn the_newest_receipts_are_compared_with_their_rows_and_no_others() -> anyhow::Result<()> {
    let mut host = sealed().await?;
    for (receipts, numbers) in [(1, (3, 3)), (2, (2, 3)), (3, (1, 3)), (9, (1, 3))] {
        let found = newest(&host, receipts).await?;
        assert!(found.holds(), "{receipts}: {:?}", found.faults);
        assert_eq!(found.numbers, Some(numbers));
        assert_eq!(found.compared.changes, u64::from(receipts.min(3)));
    }
    host.run("update audit_changes set op = 'delete' where data_after ->> 'v' = '2'").await?;
    assert!(newest(&host, 1).await?.holds());
    assert_eq!(terms(&newest(&host, 2).await?), ["row_changed"]);
    // Rows that are in no receipt are somebody else's question.
    host.run("insert into t (v) values (4)").await?;
    let found = newest(&host, 1).await?;
    assert!(found.holds() && found.pending.changes == 0, "{found:?}");
    Ok(())
}

#[tokio::test]
async fn a_chain_that_was_cut_in_the_middle_of_the_newest_ones_is_found() -> anyhow::Result<()> {
    let host = sealed().await?;
    let mut superuser = host.database.superuser().await?;
    sqlx::query("delete from threadline_receipts where n = 2").execute(&mut superuser).await?;
    let found = newest(&host, 2).await?;
    assert!(terms(&found).contains(&"receipt_missing".to_owned()), "{found:?}");
    assert!(newest(&host, 1).await?.holds());
    Ok(())
}

#[tokio::test]
async fn without_receipts_there_is_nothing_to_compare() -> anyhow::Result<()> {
    let found = newest(&Host::new().await?, 5).await?;
    assert!(found.holds() && found.receipts == 0, "{found:?}");
    Ok(())
}
