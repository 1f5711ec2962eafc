//! For operators: [`backfill`] enters rows that were there before capture, [`event_status`] shows what became of one event,
//! [`backlog`] how much waits, [`standing`] how far everything has come.

pub mod backfill;
pub mod backlog;
pub mod event_status;
pub mod standing;
