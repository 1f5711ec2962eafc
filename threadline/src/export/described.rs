//! The manifest of an export that is complete.

use time::OffsetDateTime;

use super::{
    Manifest, Product, Rows,
    manifest::{Database, FORMAT_VERSION, Purged, Said, Window},
    progress::Asked,
    writer::Finished,
};
use crate::{
    horizon::Horizon,
    query::{Alone, Origin, Shape, time_text},
    signing::SigningKey,
};

/// The members of a captured transaction that stands alone.
const TRANSACTION_MEMBERS: [&str; 12] = [
    "kind",
    "id",
    "txid",
    "occurred_at",
    "actor_ref",
    "source",
    "correlation_id",
    "request_id",
    "job_id",
    "meta",
    "context",
    "action_id",
];

/// What is said of an export before it begins.
pub(super) struct Described<'e> {
    pub(super) asked: &'e Asked,
    pub(super) shape: Shape,
    pub(super) purged: Option<&'e Horizon>,
    pub(super) recorded: bool,
    pub(super) key: Option<&'e SigningKey>,
}

impl Described<'_> {
    pub(super) fn manifest(
        &self,
        origin: &Origin,
        Finished { written, truncated }: Finished,
        resumed_at: Vec<String>,
        file: Option<String>,
    ) -> Manifest {
        let (from, to) = origin.filter.window.ends(OffsetDateTime::UNIX_EPOCH);
        let options = &self.asked.options;
        let columns = match self.shape {
            Shape::Alone(Alone::Transactions) => &TRANSACTION_MEMBERS,
            _ => options.columns(),
        };
        Manifest {
            format_version: FORMAT_VERSION,
            product: Product { name: "threadline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            file,
            generated_at: origin.started_at.clone(),
            resumed_at,
            database: Database {
                name: origin.database.clone(),
                system_identifier: origin.system_identifier.clone(),
            },
            storage_schema: self.asked.storage_schema.clone(),
            snapshot: origin.snapshot.clone(),
            filter: self.asked.filter.clone(),
            window: Window { from: from.map(time_text), to: to.map(time_text) },
            scope: self.asked.scope.clone(),
            profile: options.profile,
            format: options.format,
            options: Said::from(options),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Rows::of(&written.parts),
            max_rows: options.max_rows,
            truncated,
            bytes: written.bytes,
            sha256: written.sha256,
            first_entry_at: written.parts.iter().find_map(|part| part.first_entry_at.clone()),
            last_entry_at: written.parts.iter().rev().find_map(|part| part.last_entry_at.clone()),
            parts: written.parts,
            purged: self.purged.map(Purged::from),
            recorded: self.recorded,
            key: self.key.map(SigningKey::public),
        }
    }
}
