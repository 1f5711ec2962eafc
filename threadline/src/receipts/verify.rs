//! Verification against the database: the chain, each leaf against its row, and rows that no leaf knows.

use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::{
    chain::{Chain, Trust},
    columns::Kind,
    content::Content,
    error::ReceiptError,
    fault::{Fault, FaultKind, RowName},
    leaf::{Leaf, PART},
    lookup::each_row,
    purges::{Bounds, Purges},
    row::{Erased, Row},
    rows::{self, Members},
    seal::members,
    snapshot::{self, Here},
    store::{self, Parts},
    verification::Verification,
};
use crate::{
    StorageSchema, Timeline,
    erasure::KnownRuns,
    query::{Position, limit_time},
};

/// Compares the timeline with its receipts, in one snapshot. `progress` is told how many rows have been compared so far.
///
/// # Errors
/// `standby`, `not_installed`, `rights`, and what the database says. What does not verify is no error.
pub async fn verify(
    timeline: &Timeline,
    trust: &Trust,
    progress: impl FnMut(u64),
) -> Result<Verification, ReceiptError> {
    compare(timeline, trust, None, progress).await
}

/// The same of the newest receipts alone: how they follow one another, and what they seal against the rows. What is before them, and rows that are
/// in no receipt, are not looked at. No statement takes longer than `within`; whoever waits for all of them sets a time of their own.
///
/// # Errors
/// As [`verify`].
pub async fn verify_newest(
    timeline: &Timeline,
    trust: &Trust,
    receipts: u32,
    within: Duration,
) -> Result<Verification, ReceiptError> {
    compare(timeline, trust, Some((receipts, within)), |_| ()).await
}

async fn compare(
    timeline: &Timeline,
    trust: &Trust,
    newest: Option<(u32, Duration)>,
    progress: impl FnMut(u64),
) -> Result<Verification, ReceiptError> {
    let schema = timeline.schema();
    let mut connection = timeline.pool().acquire().await?;
    let (mut snapshot, here) = snapshot::begin(&mut connection, schema).await?;
    let mut first = 1;
    if let Some((receipts, within)) = newest {
        limit_time(&mut snapshot, within).await?;
        let newest = store::newest(&mut snapshot, schema, receipts.into()).await?;
        first = newest.last().map_or(1, |oldest| oldest.n);
    }
    let purges = Purges::read(&mut snapshot, schema).await?;
    let runs = KnownRuns::read(&mut snapshot, schema).await?;
    let found = Verification::begin(trust);
    let mut comparison = Comparison { schema, purges, runs, sealed: Vec::new(), found, progress };
    let mut chain = Chain::new(trust);
    // Of everything, also what somebody has put before the first one.
    let begin = if newest.is_some() { first } else { i64::MIN };
    let mut parts = Parts::from(begin);
    let mut after = begin.saturating_sub(1);
    loop {
        let receipts = store::receipts_after(&mut snapshot, schema, after).await?;
        let Some(last) = receipts.last() else { break };
        after = last.n;
        for receipt in &receipts {
            chain.take(receipt, first, &mut comparison.found.faults);
            comparison.found.add(receipt);
            let mut content = Content::default();
            while let Some(part) = parts.next_up_to(receipt.n, &mut snapshot, schema).await? {
                if part.n < receipt.n {
                    comparison.push(Fault::of_receipt(FaultKind::LeavesAdded, part.n));
                    continue;
                }
                content.add_bytes(&part.bytes);
                for leaf in part.leaves().flatten() {
                    content.count(&leaf);
                    comparison.sealed.push(Sealed { n: receipt.n, bounds: Bounds::of(receipt), leaf });
                }
                comparison.compare_if(PART, &mut snapshot).await?;
            }
            content.end(receipt, &mut comparison.found.faults);
        }
    }
    comparison.compare_if(1, &mut snapshot).await?;
    comparison.count_purged();
    while let Some(part) = parts.next_up_to(i64::MAX, &mut snapshot, schema).await? {
        comparison.push(Fault::of_receipt(FaultKind::LeavesAdded, part.n));
    }
    chain.end(&mut comparison.found.faults);
    if newest.is_none() && chain.last().is_some() {
        comparison.unsealed(&chain, &here, &mut snapshot).await?;
    }
    snapshot.rollback().await?;
    Ok(comparison.found)
}

/// A leaf, and what is known of it besides.
struct Sealed {
    n: i64,
    bounds: Bounds,
    leaf: Leaf,
}

/// Of leaves with rows.
struct Comparison<'c, P> {
    schema: &'c StorageSchema,
    purges: Purges,
    /// Erasures.
    runs: KnownRuns,
    /// Leaves that are still to be compared.
    sealed: Vec<Sealed>,
    found: Verification,
    progress: P,
}

impl<P: FnMut(u64)> Comparison<'_, P> {
    fn push(&mut self, fault: Fault) {
        self.found.faults.push(fault);
    }

    /// Compares what there is to be compared, if it is at least so much.
    async fn compare_if(&mut self, least: usize, connection: &mut PgConnection) -> Result<(), ReceiptError> {
        if self.sealed.len() < least {
            return Ok(());
        }
        // Small receipts together: a statement for each kind.
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.sort_by_key(|sealed| sealed.leaf.kind);
        for of_kind in sealed.chunk_by(|one, other| one.leaf.kind == other.leaf.kind) {
            let Some(Sealed { leaf: Leaf { kind, .. }, .. }) = of_kind.first() else { continue };
            let leaves: Vec<Leaf> = of_kind.iter().map(|sealed| sealed.leaf).collect();
            let runs = std::mem::take(&mut self.runs);
            let read = each_row(connection, self.schema, *kind, &leaves, &runs, |place, row| {
                match (place.and_then(|place| of_kind.get(place)), row) {
                    (Some(sealed), row) => self.compare(sealed, row.as_ref()),
                    (None, Some(row)) => {
                        self.push(Fault::of_row(FaultKind::RowAdded, None, RowName::of(&row)));
                    }
                    (None, None) => {}
                }
                Ok(())
            });
            read.await?;
            self.runs = runs;
        }
        (self.progress)(self.found.compared.rows());
        Ok(())
    }

    fn compare(&mut self, sealed: &Sealed, row: Option<&Row<'_>>) {
        let Sealed { n, bounds, leaf } = sealed;
        match row {
            Some(row) if row.erased == Some(Erased::Unexplained) => {
                self.push(Fault::of_row(FaultKind::ErasedUnexplained, Some(*n), RowName::of(row)));
            }
            Some(row) if row.leaf() == *leaf => {
                self.found.compared.add(leaf.kind);
                if let Some(Erased::By(run, values)) = row.erased {
                    *self.found.erased.entry(run).or_default() += values;
                }
            }
            Some(row) => self.push(Fault::of_row(FaultKind::RowChanged, Some(*n), RowName::of(row))),
            None => {
                if !self.purges.count(leaf, *bounds) {
                    let name = RowName::without_columns(leaf.kind, leaf.id);
                    self.push(Fault::of_row(FaultKind::RowRemoved, Some(*n), name));
                }
            }
        }
    }

    /// Rows that are gone, once all of them are known.
    fn count_purged(&mut self) {
        let (purged, left) = self.purges.sums();
        self.found.purged = purged;
        self.found.purged_is_counted = true;
        for (kind, rows) in left {
            let fault = Fault::new(FaultKind::RowRemoved).saying(format!(
                "so it is with {rows} of those of kind {kind} that are gone: runs of retention say that they have deleted fewer; which of them \
                 these are is not known"
            ));
            self.found.faults.push(fault);
        }
    }

    /// Rows that are in no receipt: the next one takes them, or they were slipped in.
    async fn unsealed(
        &mut self,
        chain: &Chain<'_>,
        here: &Here,
        connection: &mut PgConnection,
    ) -> Result<(), ReceiptError> {
        let position: Option<Position> = chain.last().and_then(|last| last.position.parse().ok());
        let next = members(chain.last(), position.as_ref(), here);
        self.found.is_elsewhere = matches!(next, Members::Unsealed);
        for kind in Kind::ALL {
            let statement = rows::unsealed(kind, next, self.schema);
            let mut unsealed = statement.query().fetch(&mut *connection);
            while let Some(row) = unsealed.try_next().await? {
                if row.try_get(0)? {
                    self.found.pending.add(kind);
                } else if let Some(row) = Row::read(&row, 1, kind, &self.runs)? {
                    self.found.faults.push(Fault::of_row(FaultKind::RowAdded, None, RowName::of(&row)));
                }
            }
        }
        Ok(())
    }
}
