//! What is done with a timeline as a whole: it is exported, purged beside writers, row by row and by the month, sealed and verified. Beside `copy`, beside what the
//! Elixir library asks its own tables for, and beside writers that nobody disturbs.

mod command;
mod copy;
mod export;
mod library;
mod months;
mod purge;
mod receipts;
pub(super) mod writers;

use super::{
    Bench,
    reads::data::{self, Rows},
    say,
};

/// What the names of its cases begin with.
pub(crate) const CASES: &str = "handover/";
/// All changes, as CSV.
pub(crate) const CSV: &str = "handover/export csv";
/// As JSON, one on each line.
pub(crate) const NDJSON: &str = "handover/export ndjson";
/// What writers wait beside a purge.
pub(crate) const PURGE: &str = "handover/writers beside a purge";
/// What the purge has deleted.
pub(crate) const DELETED: &str = "handover/purge";
/// Sealing and verifying.
pub(crate) const RECEIPTS: &str = "handover/receipts";
/// A month of changes that is dropped as a whole, and what writers wait beside it.
pub(crate) const PARTITION_DROP: &str = "handover/partition drop";

/// The command of this project.
pub(crate) const OURS: &str = "threadline";
/// The same with a quarter of the rows.
pub(crate) const QUARTER: &str = "threadline, a quarter of the rows";
/// The server's own way to hand rows over, before ours and behind it.
pub(crate) const COPY: &str = "copy";
const COPY_AGAIN: &str = "copy again";
/// The library's statements.
pub(crate) const LIBRARY: &str = "library";
/// Writers alone, before the purge and behind it.
pub(crate) const UNDISTURBED: &str = "undisturbed";
const UNDISTURBED_AGAIN: &str = "undisturbed again";
/// Writers while a purge runs.
pub(crate) const DISTURBED: &str = "purge";
/// The statement that drops the month, which holds the lock; and the longest write before it and beside it.
pub(crate) const DROP: &str = "drop of a month";
pub(crate) const LONGEST_BEFORE: &str = "longest write before it";
pub(crate) const LONGEST_BESIDE: &str = "longest write beside it";
/// The commands of receipts, by what they are called.
pub(crate) const SEAL: &str = "seal";
pub(crate) const BUNDLE: &str = "bundle";
pub(crate) const VERIFY_BUNDLE: &str = "verify-bundle";
pub(crate) const VERIFY: &str = "verify";

/// The databases: all rows, a quarter of them, and all of them in the library's tables.
const ALL: &str = "handover_ours";
const A_QUARTER: &str = "handover_quarter";
const LIBRARYS: &str = "handover_library";
/// Half of all rows, in a month.
const MONTH: &str = "handover_month";

/// Everything.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    let (all, quarter) = (Rows::with(bench.plan.handover), Rows::with(bench.plan.handover / 4));
    if repeat == 0 {
        say(&format!("writing {} changes into three databases", all.changes));
        data::with_our_tables(bench.environment, ALL, all).await?;
        data::with_our_tables(bench.environment, A_QUARTER, quarter).await?;
        data::with_the_librarys_tables(bench.environment, LIBRARYS, ALL).await?;
        data::by_months(bench.environment, MONTH, Rows::with(bench.plan.handover / 2)).await?;
    }
    export::take(bench, all.changes, quarter.changes, repeat).await?;
    purge::take(bench, all.changes, repeat).await?;
    months::take(bench, repeat).await?;
    receipts::take(bench, all.changes, repeat).await
}
