//! One file a command.

mod adopted;
pub mod attach;
pub mod backfill;
pub mod detach;
pub mod drop_reader;
pub mod prune;
pub mod rebase;
pub mod status;
mod table_in_use;

/// The name of the connections that the commands open.
pub(crate) const APPLICATION: &str = "audit-publisher-command";
