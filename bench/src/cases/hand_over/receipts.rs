//! A receipt of all rows, a bundle of it, and both verified.

use std::fs;

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, PgConnection};

use super::{ALL, BUNDLE, RECEIPTS, SEAL, VERIFY, VERIFY_BUNDLE, command};
use crate::cases::Bench;

/// Everything that one receipt holds.
const SEALED: &str = "select count(*), coalesce(sum(changes), 0)::bigint from threadline_receipts";

/// In a copy, of which nothing is sealed.
pub(super) async fn take(bench: &mut Bench<'_>, changes: u64, repeat: u32) -> anyhow::Result<()> {
    let url = bench.environment.source_like(ALL).await?;
    let path = bench.environment.sandbox.work_dir.path().join("bundle.ndjson");
    let file = path.to_str().context("a folder whose name is a text")?;
    let commands: [(&str, Option<&str>, &[&str]); 4] = [
        (SEAL, Some(&url), &["receipts", SEAL]),
        (BUNDLE, Some(&url), &["receipts", BUNDLE, "-o", file]),
        // Without a server.
        (VERIFY_BUNDLE, None, &["receipts", VERIFY_BUNDLE, file]),
        (VERIFY, Some(&url), &["receipts", VERIFY]),
    ];
    for (variant, database, arguments) in commands {
        let mut sample = command::measure(bench, (RECEIPTS, variant, repeat), database, arguments).await?;
        sample.rows = changes;
        bench.keep(sample).await?;
        if variant == SEAL {
            check_sealed(&url, changes).await?;
        }
    }
    fs::remove_file(&path)?;
    bench.environment.drop(&[&url]).await
}

async fn check_sealed(url: &str, changes: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let (receipts, sealed): (i64, i64) = sqlx::query_as(SEALED).fetch_one(&mut connection).await?;
    ensure!(
        (receipts, sealed.cast_unsigned()) == (1, changes),
        "{receipts} receipts hold {sealed} of {changes} changes"
    );
    Ok(connection.close().await?)
}
