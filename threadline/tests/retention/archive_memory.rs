//! What a purge that archives needs does not grow with what it archives.

use std::{fs, process::Stdio, time::Duration};

use sandbox::wait;
use sqlx::Executor as _;

use super::{
    archive_faults::{Process, purging},
    host,
};

/// Changes as those of applications are.
const MANY: &str = "insert into audit_transactions (id, txid, occurred_at)
    select md5('t' || n)::uuid, n, now() - interval '90 days' + n * interval '1 second' from generate_series(1, 10001) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select md5('t' || 1 + n / 10)::uuid, 'public', 'orders', jsonb_build_object('id', n::text), 'insert',
           jsonb_build_object('id', n, 'price', n % 977 + 0.50, 'name', 'a text of some length ' || n, 'state', n % 7),
           now() - interval '90 days' + n * interval '100 milliseconds'
    from generate_series(1, 100000) n;
    analyze audit_transactions; analyze audit_changes";

#[tokio::test]
async fn a_hundred_thousand_changes_are_archived_and_deleted_in_less_than_64_mib() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection.execute(MANY).await?;
    let arguments = ["retention", "purge", "--execute", "--batch-size", "10000", "--sleep", "0ms"];
    let mut purge = Process(purging(&host, &arguments)?.stdout(Stdio::null()).spawn()?);
    let mut most = 0;
    // Half of the time it pauses.
    wait::until("the purge to end", Duration::from_secs(600), || {
        let status = fs::read_to_string(format!("/proc/{}/status", purge.0.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or_default());
        purge.0.try_wait().is_ok_and(|ended| ended.is_some())
    })?;
    assert!(purge.0.wait()?.success());
    assert!((1_000..64 << 10).contains(&most), "{most} KiB");
    let archives = host.archives().await?;
    assert_eq!(archives.iter().map(|archive| archive.rows).sum::<i64>(), 100_000);
    assert_eq!((host.count("audit_changes").await?, host.count("audit_transactions").await?), (0, 0));
    assert!(archives.iter().map(|archive| archive.bytes).sum::<i64>() > 30 << 20);
    Ok(())
}
