//! One file or folder for each command that is not a service.

pub(crate) mod drop_durable;
pub(crate) mod explain;
pub(crate) mod failures;
#[cfg(feature = "threadline")]
pub(crate) mod rebuild;
#[cfg(feature = "threadline")]
pub(crate) mod receipts;
#[cfg(feature = "threadline")]
pub(crate) mod reconcile;
pub(crate) mod replay;
pub(crate) mod status;
