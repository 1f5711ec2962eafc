//! Capture: the timeline's own tables, who may change them, and which of the host's tables are recorded.

mod protection;
mod store;
mod tables;

use super::check::checks;

/// What everything else rests on.
pub(super) const SCHEMA: &str = "capture.schema";

checks! {
    "capture.schema" store::schema, "The timeline has every table, column, index, trigger and function.";
    "capture.migrations" store::migrations, "The newest migration has run, and none that this program does not know.";
    "capture.durable" store::durable, "A crash empties none of the timeline's tables.";
    "capture.months" store::months, "Where changes are stored by months, those of this and the next two have their tables, and hold all of them.";
    "capture.tables" tables::expected, "Every table that is expected to be captured is.";
    "capture.undecided" tables::undecided, "Of every other table somebody has decided that it is not captured.";
    "capture.triggers" tables::triggers, "The triggers of captured tables record every change, with its key.";
    "capture.off" tables::off, "Capture is switched off nowhere.";
    "capture.keys" tables::keys, "The newest 1,000 changes name their rows.";
    "capture.own_triggers" protection::own_triggers, "The triggers of the timeline's own tables fire.";
    "capture.other_triggers" protection::other_triggers, "Nobody else's triggers and rules act on the timeline's tables.";
    "capture.replica_role" protection::replica_role, "No role and no database has a session_replication_role that skips triggers.";
    "capture.row_security" protection::row_security, "Row security does not apply to the owner of the timeline's tables.";
    "capture.owner" protection::owner, "The owner of the timeline's tables owns its functions, and nobody else acts as that role.";
    "capture.rights" protection::rights, "Nobody but the owner and the roles of deploy/postgres may change or remove what is recorded.";
}
