//! What every process of the pipeline needs: [`boot`] and its exit status, [`shutdown`], [`health`], [`telemetry`], what it prints
//! ([`console`]), what status commands share ([`status`]), and the record of what operators did ([`operator_log`]).

pub mod about;
pub mod boot;
pub mod console;
pub mod health;
pub mod operator_log;
pub mod shutdown;
pub mod status;
pub mod telemetry;
