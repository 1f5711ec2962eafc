//! Entries as rows of Apache Parquet: a group of rows is kept until it is large enough, and written column by column. So memory is bounded
//! by the size of a group, and by the footer, which says of each group where it is.

mod column;
mod row;

use std::{io, sync::Arc};

use parquet::{
    basic::Compression,
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use self::column::{Column, Holds};
use super::super::ExportError;
use crate::query::Entry;

/// Bytes of values in a group of rows, behind the row that reaches them.
const GROUP_BYTES: usize = 4 << 20;

/// Rows in a group.
const GROUP_ROWS: usize = 16 << 10;

/// Columns of few different values, which are written as numbers of a dictionary. Others would only keep one in memory.
const OF_FEW: [&str; 9] = [
    "kind",
    "table_schema",
    "table_name",
    "partition",
    "op",
    "source",
    "action_name",
    "action_status",
    "action_category",
];

/// Writes the table; its bytes are taken away as they come.
#[derive(Debug)]
pub(super) struct Table {
    writer: SerializedFileWriter<Vec<u8>>,
    /// The group of rows that is not written.
    columns: Vec<Column>,
    rows: usize,
}

impl Table {
    /// With columns of these names.
    pub(super) fn new(names: &[&str]) -> Result<Self, ExportError> {
        let columns: Vec<_> = names.iter().map(|name| Column::new(holds(name))).collect();
        let fields: String = names.iter().map(|name| holds(name).field(name)).collect();
        let schema = parse_message_type(&format!("message threadline {{ {fields} }}")).map_err(unwritten)?;
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("threadline version {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false)
            // Of pages there would be as many in the footer as there are pages.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true);
        for name in names {
            let path = ColumnPath::from(*name);
            if OF_FEW.contains(name) {
                properties = properties.set_column_dictionary_enabled(path, true);
            } else if holds(name) == Holds::Document {
                // Nobody looks for a document by its first and last one.
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
        let writer = SerializedFileWriter::new(Vec::new(), schema.into(), Arc::new(properties.build()));
        Ok(Self { writer: writer.map_err(unwritten)?, columns, rows: 0 })
    }

    /// Adds an entry, whose documents are in canonical form.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), ExportError> {
        row::add(entry, &mut self.columns);
        self.rows += 1;
        let bytes: usize = self.columns.iter().map(Column::bytes).sum();
        if bytes >= GROUP_BYTES || self.rows >= GROUP_ROWS {
            self.write_group().map_err(unwritten)?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut writer = group
                .next_column()?
                .ok_or_else(|| ParquetError::General("the schema has too few columns".to_owned()))?;
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;
        self.rows = 0;
        self.writer.flush()?;
        Ok(())
    }

    /// Writes the rows that are left, and the footer.
    pub(super) fn end(&mut self) -> Result<(), ExportError> {
        if self.rows > 0 {
            self.write_group().map_err(unwritten)?;
        }
        self.writer.finish().map(drop).map_err(unwritten)
    }

    /// What has been written since.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

/// What a column of the profile full holds.
fn holds(name: &str) -> Holds {
    match name {
        "kind" | "id" => Holds::Text { always: true },
        "at" => Holds::Time { always: true },
        "occurred_at" | "action_inserted_at" => Holds::Time { always: false },
        "position" | "txid" => Holds::Number,
        "changed_fields" | "json_nulls" | "erased" => Holds::Texts,
        "table_pk" | "key_before" | "data_after" | "data_before" | "changed_from" | "transaction_actor"
        | "meta" | "context" | "action_actor" => Holds::Document,
        _ => Holds::Text { always: false },
    }
}

fn unwritten(error: ParquetError) -> ExportError {
    ExportError::Unwritten(io::Error::other(error))
}
