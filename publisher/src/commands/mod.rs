//! One file a command.

mod adopted;
pub(crate) mod attach;
pub(crate) mod backfill;
pub(crate) mod detach;
pub(crate) mod drop_reader;
pub(crate) mod prune;
pub(crate) mod rebase;
pub(crate) mod status;
mod table_in_use;

/// The name of the connections that the commands open.
pub(crate) const APPLICATION: &str = "audit-publisher-command";
