//! What an export looks like.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ExportError;
use crate::query::{Filter, Form, Kind, Shape};

/// Which shape entries have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Changes alone, with the columns and the order of the Elixir library, and numbers as it writes them: through a float.
    Compat,
    /// The same with every digit of numbers.
    #[default]
    Exact,
    /// Changes, actions and events with everything that is known of them.
    Full,
}

/// How entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated values of RFC 4180, with a header.
    #[default]
    Csv,
    /// One JSON document that holds all entries.
    Json,
    /// A JSON document on each line.
    Ndjson,
    /// An event of OCSF, the Open Cybersecurity Schema Framework, as a JSON document on each line; of the profile full alone.
    Ocsf,
    /// Apache Parquet with the columns of CSV, typed; of the profile full alone, and only in builds with the feature `parquet`. It cannot be
    /// gone on with.
    Parquet,
}

/// How an export is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which shape.
    pub profile: Profile,
    /// Which format.
    pub format: Format,
    /// Two more columns of CSV: the correlation id and the id of the linked action. JSON has them where there are any.
    pub action_metadata: bool,
    /// CSV cells that a spreadsheet would take for formulas begin with an apostrophe.
    pub spreadsheet_safe: bool,
    /// Entries at most.
    pub max_rows: Option<u64>,
}

const LIBRARY_COLUMNS: [&str; 13] = [
    "id",
    "transaction_id",
    "table_schema",
    "table_name",
    "op",
    "captured_at",
    "table_pk",
    "data_after",
    "changed_fields",
    "changed_from",
    "transaction_json",
    "correlation_id",
    "action_id",
];

const FULL_COLUMNS: [&str; 38] = [
    "kind",
    "id",
    "at",
    "table_schema",
    "table_name",
    "partition",
    "table_pk",
    "key_before",
    "op",
    "data_after",
    "data_before",
    "changed_fields",
    "changed_from",
    "json_nulls",
    "position",
    "transaction_id",
    "txid",
    "occurred_at",
    "transaction_actor",
    "source",
    "transaction_correlation_id",
    "transaction_request_id",
    "transaction_job_id",
    "meta",
    "context",
    "action_id",
    "action_name",
    "action_actor",
    "action_status",
    "action_verb",
    "action_category",
    "action_reason",
    "action_comment",
    "action_correlation_id",
    "action_request_id",
    "action_job_id",
    "action_inserted_at",
    "erased",
];

/// The members of a JSON entry in the order in which they are written; of `full` those of a change.
const LIBRARY_MEMBERS: [&str; 12] = [
    "action",
    "captured_at",
    "changed_fields",
    "changed_from",
    "data_after",
    "id",
    "op",
    "table_name",
    "table_pk",
    "table_schema",
    "transaction",
    "transaction_id",
];

const FULL_MEMBERS: [&str; 18] = [
    "kind",
    "id",
    "transaction_id",
    "table_schema",
    "table_name",
    "partition",
    "table_pk",
    "key_before",
    "op",
    "data_after",
    "data_before",
    "changed_fields",
    "changed_from",
    "json_nulls",
    "captured_at",
    "position",
    "transaction",
    "action",
];

/// Of events of OCSF; none of them has all.
const OCSF_MEMBERS: [&str; 26] = [
    "activity_id",
    "activity_name",
    "category_uid",
    "category_name",
    "class_uid",
    "class_name",
    "type_uid",
    "time",
    "time_dt",
    "severity_id",
    "severity",
    "status_id",
    "status",
    "status_code",
    "status_detail",
    "message",
    "metadata",
    "actor",
    "user",
    "src_endpoint",
    "service",
    "api",
    "table",
    "type_id",
    "type",
    "unmapped",
];

/// Of a build without the feature.
pub(super) const WITHOUT_PARQUET: &str =
    "this build writes no Parquet: build threadline with the cargo feature parquet, or export another format";

impl Options {
    /// Whether they can be used together and with the filter.
    ///
    /// # Errors
    /// `export_options` and `profile_kind`.
    pub fn check(&self, filter: &Filter) -> Result<(), ExportError> {
        if self.profile == Profile::Full && self.action_metadata {
            let reason = "the profile full has all of the linked action: leave --include-action-metadata out";
            return Err(ExportError::refused("export_options", reason));
        }
        if !self.format.is_built() {
            return Err(ExportError::refused("export_options", WITHOUT_PARQUET));
        }
        if self.profile != Profile::Full && self.format.only_full() {
            let reason =
                format!("{} has everything of an entry: say --profile full, or leave it out", self.format);
            return Err(ExportError::refused("export_options", reason));
        }
        if self.format != Format::Csv && self.spreadsheet_safe {
            let reason =
                format!("no spreadsheet takes {} for formulas: leave --spreadsheet-safe out", self.format);
            return Err(ExportError::refused("export_options", reason));
        }
        let is_of_actions = filter.kind.is_some_and(|kind| kind != Kind::Change);
        if self.profile != Profile::Full && is_of_actions {
            let reason = format!(
                "the profile {} holds changes alone, and the filter asks for others: say --profile full",
                self.profile
            );
            return Err(ExportError::refused("profile_kind", reason));
        }
        Ok(())
    }

    pub(super) fn shape(&self) -> Shape {
        if self.profile == Profile::Full {
            return Shape::Entries;
        }
        Shape::Library { action: self.format != Format::Csv || self.action_metadata }
    }

    pub(super) fn form(&self) -> Form {
        match self.profile {
            Profile::Compat => Form::Compat,
            Profile::Exact => Form::Exact,
            Profile::Full => Form::Stored,
        }
    }

    /// The columns of CSV, or the members of an entry, in their order.
    #[must_use]
    pub fn columns(&self) -> &'static [&'static str] {
        match (self.format, self.profile) {
            (Format::Csv, Profile::Full) | (Format::Parquet, _) => &FULL_COLUMNS,
            (Format::Csv, _) if self.action_metadata => &LIBRARY_COLUMNS,
            (Format::Csv, _) => &LIBRARY_COLUMNS[..11],
            (Format::Ocsf, _) => &OCSF_MEMBERS,
            (_, Profile::Full) => &FULL_MEMBERS,
            _ => &LIBRARY_MEMBERS,
        }
    }
}

impl Profile {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Exact => "exact",
            Self::Full => "full",
        }
    }
}

impl Format {
    /// All of them, those that are read most first.
    pub const ALL: [Self; 5] = [Self::Csv, Self::Ndjson, Self::Json, Self::Ocsf, Self::Parquet];

    /// Its name, which is also the extension of its files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Ocsf => "ocsf",
            Self::Parquet => "parquet",
        }
    }

    /// Whether this build writes it: Parquet only with the feature `parquet`.
    #[must_use]
    pub fn is_built(self) -> bool {
        self != Self::Parquet || cfg!(feature = "parquet")
    }

    /// Whether it is of the profile full alone.
    #[must_use]
    pub fn only_full(self) -> bool {
        matches!(self, Self::Ocsf | Self::Parquet)
    }

    /// Whether an export that was stopped can be gone on with. What a Parquet file says of its parts stands at its end.
    #[must_use]
    pub fn can_be_resumed(self) -> bool {
        self != Self::Parquet
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<Self, ExportError> {
        [Self::Compat, Self::Exact, Self::Full].into_iter().find(|one| one.as_str() == text).ok_or_else(
            || {
                ExportError::refused(
                    "export_options",
                    format!("{text:?} is no profile: compat, exact or full"),
                )
            },
        )
    }
}

impl FromStr for Format {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<Self, ExportError> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
            let reason = format!("{text:?} is no format: csv, json, ndjson, ocsf or parquet");
            ExportError::refused("export_options", reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names_and_are_refused_with_what_they_do_not_hold() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().ok(), Some(format));
            for (profile, is_held) in [(Profile::Exact, !format.only_full()), (Profile::Full, true)] {
                let checked = Options { profile, format, ..Options::default() }.check(&Filter::default());
                assert_eq!(checked.is_ok(), is_held && format.is_built(), "{profile} {format}: {checked:?}");
            }
        }
    }
}
