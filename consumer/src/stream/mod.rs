//! The stream as the source of work: [`pull`] fetches messages of a durable, [`delivery`] reads one, [`worker`] has batches of
//! them dispatched and settles each; `waiting` is what was fetched and not taken; `stall_detector` notices a durable that does not deliver, and `durable_position`
//! remembers where it was seen last.

pub mod delivery;
mod durable_position;
pub mod pull;
mod stall_detector;
mod waiting;
pub mod worker;

pub(crate) use self::waiting::{RENEWALS, Waiting};
