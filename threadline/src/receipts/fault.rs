//! What does not verify.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{columns::Kind, row::Row};

/// Faults that are listed; all are counted.
pub const FAULTS_MAX: usize = 100;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// Receipts before this one are missing.
    ReceiptMissing,
    /// A receipt's hash is not that of its content.
    ReceiptChanged,
    /// A receipt does not follow the one before it.
    ChainBroken,
    /// A receipt's signature is not valid.
    SignatureInvalid,
    /// A receipt was not signed with any of the given keys.
    KeyUnknown,
    /// No receipt has the hash that was kept.
    ChainCut,
    /// The leaves of a receipt are not those that were sealed.
    LeavesChanged,
    /// Leaves without a receipt.
    LeavesAdded,
    /// A row is not what was sealed.
    RowChanged,
    /// A row is gone, and no purge says so.
    RowRemoved,
    /// A row is in no receipt, although it claims to be older than the last one.
    RowAdded,
    /// A row says that it was erased, and no run says so, or something else stands there than what erasing leaves.
    ErasedUnexplained,
    /// The file is no bundle.
    NoBundle,
    /// A line of a bundle cannot be read.
    LineMalformed,
    /// A bundle does not end with what its end says, or has none.
    BundleCut,
}

/// A row, for people who look for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowName {
    /// Of which table.
    #[serde(rename = "row")]
    pub kind: Kind,
    /// Its primary key.
    pub id: Uuid,
    /// Of a change: the table that it is about, `schema.table`.
    pub table: Option<String>,
    /// Of a change: the key of the row that it is about, as JSON.
    pub key: Option<String>,
}

/// Something that does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Of which receipt.
    pub receipt: Option<i64>,
    /// In which line of a bundle.
    pub line: Option<u64>,
    /// Which row.
    pub row: Option<RowName>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// All faults: the first of them, and how many there are of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The first [`FAULTS_MAX`].
    pub listed: Vec<Fault>,
    /// All, by kind.
    pub counts: BTreeMap<FaultKind, u64>,
}

impl FaultKind {
    /// What programs can rely on.
    #[must_use]
    pub fn term(self) -> &'static str {
        match self {
            Self::ReceiptMissing => "receipt_missing",
            Self::ReceiptChanged => "receipt_changed",
            Self::ChainBroken => "chain_broken",
            Self::SignatureInvalid => "signature_invalid",
            Self::KeyUnknown => "key_unknown",
            Self::ChainCut => "chain_cut",
            Self::LeavesChanged => "leaves_changed",
            Self::LeavesAdded => "leaves_added",
            Self::RowChanged => "row_changed",
            Self::RowRemoved => "row_removed",
            Self::RowAdded => "row_added",
            Self::ErasedUnexplained => "erased_unexplained",
            Self::NoBundle => "no_bundle",
            Self::LineMalformed => "line_malformed",
            Self::BundleCut => "bundle_cut",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::ReceiptMissing => "receipts before it are missing",
            Self::ReceiptChanged => "it was changed: its hash is not that of its content",
            Self::ChainBroken => "the chain is broken: it does not follow the receipt before it",
            Self::SignatureInvalid => "its signature is not valid",
            Self::KeyUnknown => "it was not signed with a key that was given",
            Self::ChainCut => "no receipt has the hash that was kept: the chain was cut or written again",
            Self::LeavesChanged => "its leaves are not those that were sealed",
            Self::LeavesAdded => "there are leaves, and no receipt for them",
            Self::RowChanged => "the row was changed after it was sealed",
            Self::RowRemoved => "the row was removed, and no purge says so",
            Self::RowAdded => {
                "the row was slipped in: it is in no receipt, and claims to be older than the last one"
            }
            Self::ErasedUnexplained => {
                "the row says that it was erased, and no erasure says so, or other values stand there than those that erasing leaves"
            }
            Self::NoBundle => "this is no bundle of receipts, which begins otherwise",
            Self::LineMalformed => "the line cannot be read",
            Self::BundleCut => "the bundle was cut or changed",
        }
    }
}

impl RowName {
    pub(super) fn of(row: &Row<'_>) -> Self {
        let table = row.text("table_schema").zip(row.text("table_name"));
        Self {
            kind: row.kind,
            id: row.id,
            table: table.map(|(schema, name)| format!("{schema}.{name}")),
            key: row.text("table_pk").map(str::to_owned),
        }
    }

    pub(super) fn without_columns(kind: Kind, id: Uuid) -> Self {
        Self { kind, id, table: None, key: None }
    }
}

impl Fault {
    pub(super) fn new(kind: FaultKind) -> Self {
        Self { kind, receipt: None, line: None, row: None, detail: None }
    }

    pub(super) fn of_receipt(kind: FaultKind, n: i64) -> Self {
        Self { receipt: Some(n), ..Self::new(kind) }
    }

    pub(super) fn of_row(kind: FaultKind, receipt: Option<i64>, row: RowName) -> Self {
        Self { receipt, row: Some(row), ..Self::new(kind) }
    }

    pub(super) fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    pub(super) fn in_line(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }
}

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        *self.counts.entry(fault.kind).or_default() += 1;
        if self.listed.len() < FAULTS_MAX {
            self.listed.push(fault);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// For people, on one line. What a database or a bundle holds stands in it as it is: a terminal is given it escaped.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(n) = self.receipt {
            write!(f, "receipt {n}: ")?;
        }
        if let Some(RowName { kind, id, table, key }) = &self.row {
            write!(f, "{kind} {id}")?;
            if let Some(table) = table {
                write!(f, " of {table}")?;
            }
            if let Some(key) = key {
                write!(f, " {key}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(self.kind.words())?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

/// Its members, and what people are told.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'f> {
            fault: &'static str,
            receipt: Option<i64>,
            line: Option<u64>,
            #[serde(flatten)]
            row: Option<&'f RowName>,
            words: String,
        }
        let Self { kind, receipt, line, row, .. } = self;
        let (receipt, line, row) = (*receipt, *line, row.as_ref());
        Members { fault: kind.term(), receipt, line, row, words: self.to_string() }.serialize(serializer)
    }
}
