//! Verification against the database: the chain, each leaf against its row, and rows that no leaf knows.

use futures::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;

use super::{
    chain::{Chain, Trust},
    columns::Kind,
    content::Content,
    error::ReceiptError,
    fault::{Fault, FaultKind, RowName},
    leaf::{Leaf, PART},
    lookup::each_row,
    purges::Purges,
    row::Row,
    rows::{self, Members},
    seal::members,
    snapshot::{self, Here},
    store::{self, Parts},
    verification::Verification,
};
use crate::{StorageSchema, Timeline, query::Position};

/// Compares the timeline with its receipts, in one snapshot. `progress` is told how many rows have been compared so far.
///
/// # Errors
/// `standby`, `not_installed`, `rights`, and what the database says. What does not verify is no error.
pub async fn verify(
    timeline: &Timeline,
    trust: &Trust,
    progress: impl FnMut(u64),
) -> Result<Verification, ReceiptError> {
    let schema = timeline.schema();
    let mut connection = timeline.pool().acquire().await?;
    let (mut snapshot, here) = snapshot::begin(&mut connection, schema).await?;
    let purges = Purges::read(&mut snapshot, schema).await?;
    let found = Verification::default();
    let mut comparison = Comparison { schema, purges, sealed: Vec::new(), found, progress };
    let mut chain = Chain::new(trust);
    let mut parts = Parts::from(i64::MIN);
    let mut after = i64::MIN;
    loop {
        let receipts = store::receipts_after(&mut snapshot, schema, after).await?;
        let Some(last) = receipts.last() else { break };
        after = last.n;
        for receipt in &receipts {
            chain.take(receipt, 1, &mut comparison.found.faults);
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
                    comparison.sealed.push(Sealed { n: receipt.n, since: receipt.since, leaf });
                }
                comparison.compare_if(PART, &mut snapshot).await?;
            }
            content.end(receipt, &mut comparison.found.faults);
        }
    }
    comparison.compare_if(1, &mut snapshot).await?;
    while let Some(part) = parts.next_up_to(i64::MAX, &mut snapshot, schema).await? {
        comparison.push(Fault::of_receipt(FaultKind::LeavesAdded, part.n));
    }
    chain.end(&mut comparison.found.faults);
    if chain.last().is_some() {
        comparison.unsealed(&chain, &here, &mut snapshot).await?;
    }
    snapshot.rollback().await?;
    Ok(comparison.found)
}

/// A leaf, and what is known of it besides.
struct Sealed {
    n: i64,
    since: Option<OffsetDateTime>,
    leaf: Leaf,
}

/// Of leaves with rows.
struct Comparison<'c, P> {
    schema: &'c StorageSchema,
    purges: Purges,
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
            let mut places = of_kind.iter();
            each_row(connection, self.schema, *kind, &leaves, |_, row| {
                if let Some(sealed) = places.next() {
                    self.compare(sealed, row.as_ref());
                }
                Ok(())
            })
            .await?;
        }
        (self.progress)(self.found.compared.rows());
        Ok(())
    }

    fn compare(&mut self, sealed: &Sealed, row: Option<&Row<'_>>) {
        let Sealed { n, since, leaf } = sealed;
        match row {
            Some(row) if row.leaf() == *leaf => self.found.compared.add(leaf.kind),
            Some(row) => self.push(Fault::of_row(FaultKind::RowChanged, Some(*n), RowName::of(row))),
            None => {
                if let Some(run) = self.purges.run_of(leaf.kind, leaf.id, *since) {
                    *self.found.purged.entry(run).or_default() += 1;
                } else {
                    let name = RowName::without_columns(leaf.kind, leaf.id);
                    self.push(Fault::of_row(FaultKind::RowRemoved, Some(*n), name));
                }
            }
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
                } else if let Some(row) = Row::read(&row, 1, kind)? {
                    self.found.faults.push(Fault::of_row(FaultKind::RowAdded, None, RowName::of(&row)));
                }
            }
        }
        Ok(())
    }
}
