//! For operators: [`backfill`] enters rows that were there before capture, [`event_status`] shows what became of one event,
//! [`backlog`] how much waits.

pub mod backfill;
pub mod backlog;
pub mod event_status;
