//! One file or folder for each command that is not a service.

pub mod drop_durable;
pub mod explain;
pub mod failures;
#[cfg(feature = "threadline")]
pub mod rebuild;
#[cfg(feature = "threadline")]
pub mod receipts;
#[cfg(feature = "threadline")]
pub mod reconcile;
pub mod replay;
pub mod status;
