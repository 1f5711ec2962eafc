//! What every process of the pipeline needs: [`boot`] and its exit status; the [`lifecycle`] of a service, with its [`tasks`], its
//! [`endpoint`], its [`health`] and its end ([`shutdown`], [`ServiceError`]); [`telemetry`]; what it prints ([`console`]), what status
//! commands share ([`status`]), and the record of what operators did ([`operator_log`]).

pub mod about;
pub mod boot;
pub mod endpoint;
mod error;
pub mod lifecycle;
pub mod status;
pub mod tasks;

pub use self::error::{ServiceError, ServiceErrorKind};
pub use crate::process::{console, health, operator_log, shutdown, telemetry};
