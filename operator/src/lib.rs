//! The operator surface of Threadline: pages that show the audit timeline, and the pipeline, to people who write no SQL.
//!
//! It is a service that a host mounts where it likes. It has no login: who asks, and what they may see, is decided by the
//! host, in [`OperatorAuth`]; there is no router before that is said. What is shown of the timeline comes through [`threadline::query`], with the
//! [`Scope`](threadline::query::Scope) of the [`Grant`] as a part of every statement; what belongs to no tenant needs a [`Capability`] and a scope that is
//! everything.
//!
//! It reads, on connections that cannot write. What can be done besides, such as saved views and exports, needs [`Operator::writing`] and is recorded first;
//! nothing of the timeline is deleted. `docs/operator.md` has all pages, `docs/operator-hosts.md` how they are mounted, or served without a host in Rust by
//! `threadline-serve` (the feature `serve`).
//!
//! ```no_run
//! use axum::http::request::Parts;
//! use operator::{Ask, Denied, Grant, Operator, OperatorAuth};
//! use threadline::{ActorRef, ActorType, StorageSchema, query::Scope};
//!
//! struct Staff;
//!
//! impl OperatorAuth for Staff {
//!     async fn authorize(&self, parts: &Parts, _ask: Ask) -> Result<Grant, Denied> {
//!         // What a layer of the host's has found out about the request.
//!         let user = parts.extensions.get::<String>().ok_or(Denied::new("Log in first."))?;
//!         let actor = ActorRef::new(ActorType::Admin, Some(user.as_str())).map_err(|_| Denied::new("Log in first."))?;
//!         Ok(Grant::new(actor, Scope::of_context("tenant", "t1")))
//!     }
//! }
//!
//! # fn example(options: sqlx::postgres::PgConnectOptions) -> axum::Router {
//! let operator = Operator::new(options, StorageSchema::default()).auth(Staff);
//! axum::Router::new().nest_service("/audit", operator.into_service())
//! # }
//! ```
//!
//! Links are relative, so that nothing has to be said about where it is mounted, also behind a proxy that cuts the path.

mod acts;
mod answer;
mod asked;
mod assets;
mod auth;
mod dispatch;
mod download;
mod failure;
mod feeds;
mod kept;
mod limits;
mod links;
mod mount;
mod pages;
mod pairs;
mod policies;
mod preferences;
mod routes;
#[cfg(feature = "serve")]
pub mod serve;
mod shared;
#[cfg(feature = "pipeline")]
mod source;
mod surface;
mod view;
mod viewings;

pub use auth::{Ask, Capability, Denied, Grant, OperatorAuth};
pub use limits::Limits;
pub use mount::{Authorized, Operator};
pub use policies::Policies;
pub use surface::Surface;
