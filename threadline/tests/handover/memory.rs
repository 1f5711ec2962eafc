//! What an export needs does not grow with what is exported.

use std::{fs, path::Path, process::Stdio, time::Duration};

use sandbox::wait;

use super::{Read, command, folder};

/// Changes as those of applications are.
pub(super) const MANY: &str = "insert into audit_transactions (id, txid, occurred_at)
    select md5('t' || n)::uuid, n, timestamptz '2026-03-01Z' + n * interval '1 second' from generate_series(1, 20000) n;
    insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select md5('c' || n)::uuid, md5('t' || 1 + n / 10)::uuid, 'public', 'orders', jsonb_build_object('id', n::text), 'insert',
           jsonb_build_object('id', n, 'price', n % 977 + 0.50, 'name', 'a text of some length ' || n, 'state', n % 7),
           timestamptz '2026-03-01Z' + n * interval '100 milliseconds'
    from generate_series(1, 199989) n;
    analyze audit_transactions; analyze audit_changes";

/// KiB that a process had in memory at most.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Runs an export to its end; returns KiB that it had in memory at most.
pub(super) fn most(read: &Read, path: &Path, arguments: &[&str]) -> anyhow::Result<u64> {
    let mut running = command(&read.database, path, arguments).stdout(Stdio::null()).spawn()?;
    let mut most = 0;
    wait::until("the export to end", Duration::from_secs(300), || {
        most = most.max(peak(running.id()).unwrap_or_default());
        running.try_wait().is_ok_and(|ended| ended.is_some())
    })?;
    assert!(running.wait()?.success());
    Ok(most)
}

#[tokio::test]
async fn two_hundred_thousand_changes_need_less_than_64_mib() -> anyhow::Result<()> {
    let read = Read::after(MANY).await?;
    let (_folder, path) = folder()?;
    for arguments in [
        &["export", "run", "-o", "exact.csv"][..],
        &["export", "run", "-o", "full.ndjson", "--profile", "full"],
    ] {
        let most = most(&read, &path, arguments)?;
        assert!((1_000..64 << 10).contains(&most), "{arguments:?}: {most} KiB");
    }
    assert!(fs::metadata(path.join("exact.csv"))?.len() > 40 << 20);
    Ok(())
}

/// Small changes, and behind them some of a megabyte each.
pub(super) const LARGE: &str = "insert into audit_transactions (id, txid) values ('b0000000-0000-4000-8000-000000000001', 1);
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select 'b0000000-0000-4000-8000-000000000001', 'public', 'small', '{}', 'insert', '{}', timestamptz '2026-03-02Z' from generate_series(1, 3000) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select 'b0000000-0000-4000-8000-000000000001', 'public', 'large', '{}', 'insert',
           jsonb_build_object('text', (select string_agg(md5((n * 40000 + m)::text), '') from generate_series(1, 32768) m)), timestamptz '2026-03-01Z' from generate_series(1, 100) n";

#[tokio::test]
async fn large_rows_behind_small_ones_are_read_a_few_at_a_time() -> anyhow::Result<()> {
    let read = Read::after(LARGE).await?;
    let (_folder, path) = folder()?;
    for arguments in [
        &["export", "run", "-o", "exact.ndjson", "--unrecorded"][..],
        &["export", "run", "-o", "full.ndjson", "--profile", "full", "--unrecorded"],
    ] {
        let most = most(&read, &path, arguments)?;
        let file = fs::read_to_string(path.join(arguments[3]))?;
        assert_eq!(file.lines().count(), 3_100);
        assert!(file.len() > 100 << 20 && most < 96 << 10, "{arguments:?}: {most} KiB");
    }
    Ok(())
}
