//! The server that the timeline is on, and what it says of the timeline's tables.

mod indexes;
mod receipts;
mod records;
mod server;

use super::check::checks;

checks! {
    "observability.vacuum" server::vacuum, "Vacuum keeps up with the timeline's tables.";
    "observability.indexes" server::indexes, "Every index of the timeline is valid.";
    "observability.spare_indexes" indexes::spare, "No index of changes, transactions and actions costs writers something and helps nobody.";
    "observability.slots" server::slots, "No replication slot holds more of the write-ahead log than the server may keep.";
    "observability.transactions" server::transactions, "No transaction has been open for an hour.";
    "observability.event_triggers" server::event_triggers, "Event triggers are known: they run whenever triggers are generated.";
    "observability.clock" records::clock, "No change is of the future.";
    "observability.cluster" records::cluster, "Every captured transaction is of this cluster.";
    "observability.receipts" receipts::chains, "Every chain of receipts holds.";
}
