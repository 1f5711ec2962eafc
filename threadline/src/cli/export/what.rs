//! What to export and how it looks, as every command that asks for an export takes it.

use std::path::Path;

use threadline::{
    export::{Format, Options, Profile},
    query::Filter,
};

use super::words::{format, profile};
use crate::cli::{
    answer::Failure,
    read::{filter_of_words, refused_filter},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// Which entries: words such as table:posts op:update last:30d, of which all have to hold. Without any, all entries.
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
    /// csv, json, ndjson, parquet, or ocsf: events of the Open Cybersecurity Schema Framework. Without it the one that the name of the file
    /// ends with, or csv.
    #[arg(long, value_parser = format)]
    pub(super) format: Option<Format>,
    /// compat is what the Elixir library writes, numbers as floats too; exact the same with every digit; full everything. Without it exact;
    /// of ocsf and parquet, full.
    #[arg(long, value_parser = profile)]
    profile: Option<Profile>,
    /// Adds the columns `correlation_id` and `action_id` to CSV; JSON has them where a change is linked to an action.
    #[arg(long)]
    include_action_metadata: bool,
    /// Writes an apostrophe before cells of CSV that a spreadsheet would take for formulas.
    #[arg(long)]
    spreadsheet_safe: bool,
    /// Entries at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_rows: Option<u64>,
}

impl What {
    /// The filter.
    pub(super) fn filter(&self) -> Result<Filter, Failure> {
        filter_of_words(&self.filter).map_err(|error| refused_filter(&error))
    }

    /// How it is made: in the format `form`, or the one that is named, or the one that the name of a file ends with, or CSV.
    pub(super) fn options(&self, form: Option<Format>, file: Option<&Path>) -> Options {
        let format = form.or(self.format).or_else(|| format_of_name(file?)).unwrap_or_default();
        let implied = if format.only_full() { Profile::Full } else { Profile::default() };
        Options {
            profile: self.profile.unwrap_or(implied),
            format,
            action_metadata: self.include_action_metadata,
            spreadsheet_safe: self.spreadsheet_safe,
            max_rows: self.max_rows,
        }
    }
}

/// The format that a file is named after: `a.csv`, `a.ocsf`, `a.ocsf.ndjson`.
fn format_of_name(path: &Path) -> Option<Format> {
    let format = |path: &Path| path.extension()?.to_str()?.parse().ok();
    match format(path)? {
        Format::Ndjson if path.file_stem().map(Path::new).and_then(format) == Some(Format::Ocsf) => {
            Some(Format::Ocsf)
        }
        format => Some(format),
    }
}
