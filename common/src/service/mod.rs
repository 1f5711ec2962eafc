//! What a service and its commands are made of: [`boot`] and its exit status; the [`lifecycle`] of a service, with its [`tasks`], its
//! [`endpoint`] and its [`ServiceError`]; what status commands share ([`status`]); its [`help`]. What every process has is in [`crate::process`].

pub mod about;
pub mod boot;
pub mod endpoint;
mod error;
pub mod help;
pub mod lifecycle;
pub mod status;
pub mod tasks;

pub use self::error::{ServiceError, ServiceErrorKind};
