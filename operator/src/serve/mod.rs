//! The surface as a service of its own, `threadline-serve`: [`cli`] is the binary, [`Service`] what it runs; who may see what is found out by
//! `auth`, in one of three ways.
//!
//! A host that is written in Rust does without: it mounts [`Operator`](crate::Operator) and implements [`OperatorAuth`](crate::OperatorAuth).

mod auth;
pub mod cli;
mod configured;
mod jwt;
mod listener;
mod measure;
mod open;
mod refused;
mod service;
mod signed;

pub use service::Service;
