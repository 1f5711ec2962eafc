//! The pages, one file each: from what was asked to what is shown.

pub(crate) mod action;
pub(crate) mod actor;
pub(crate) mod checks;
pub(crate) mod correlation;
pub(crate) mod count;
pub(crate) mod coverage;
pub(crate) mod evidence;
pub(crate) mod exports;
pub(crate) mod help;
pub(crate) mod home;
pub(crate) mod incident;
#[cfg(feature = "pipeline")]
pub(crate) mod pipeline;
#[cfg(not(feature = "pipeline"))]
#[path = "no_pipeline.rs"]
pub(crate) mod pipeline;
pub(crate) mod preferences;
pub(crate) mod redaction;
pub(crate) mod retention;
pub(crate) mod row;
pub(crate) mod saved;
pub(crate) mod search;
pub(crate) mod tail;
pub(crate) mod timeline;
pub(crate) mod transaction;
pub(crate) mod verify;
