//! The audit timeline store. It knows nothing of the pipeline that fills it: any program may record actions.
//!
//! [`ActorRef`] says who, [`action`] records what, [`fn@install`] creates the tables in a [`StorageSchema`],
//! [`fn@fitness`] says whether they are there and may be written to. The tables
//! and their meaning are those of the Elixir library of the same name, over whose installation this one runs.

pub mod action;
pub mod actor;
pub mod fitness;
pub mod install;
pub mod schema;

pub use action::{AuditAction, NewAction, RecordError, Status, record_action};
pub use actor::{ActorError, ActorRef, ActorType};
pub use fitness::{Fitness, fitness};
pub use install::install;
pub use schema::{SchemaError, StorageSchema};
