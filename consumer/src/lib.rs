//! From JetStream to the forwarders.
//!
//! [`run`] is the service: for every configured forwarder a [`lane`] of workers. A worker pulls a batch ([`pull`]),
//! reads the references ([`delivery`]), reloads the rows ([`source`]), hands them to its [`forwarder`] and settles
//! every message by its verdict ([`settle`], `book`). [`forwarders`] are the kinds that come along; a host's own binary may
//! register more and call [`run::run`].

mod book;
pub mod delivery;
pub mod forward;
pub mod forwarder;
pub mod forwarders;
pub mod lane;
pub mod pull;
pub mod run;
pub mod settle;
pub mod source;
pub mod status;
