//! The audit timeline store. It knows nothing of the pipeline that fills it: any program may record actions.
//!
//! [`ActorRef`] says who, [`action`] records what, [`fn@install`] creates the tables in a [`StorageSchema`], [`fn@check_schema`]
//! says whether they are there and may be written to. [`adoption`] knows what others have brought in, [`verified`] writes where a host's triggers and rules act. [`stored`] reads actions back for a comparison, [`mod@digest`] sums
//! them up, [`mod@receipt`] keeps the sums, [`shadow`] builds the table again. The tables
//! and their meaning are those of the Elixir library of the same name, over whose installation this one runs.

pub mod action;
pub mod actor;
pub mod adoption;
pub mod digest;
pub mod install;
pub mod receipt;
pub mod schema;
pub mod schema_status;
pub mod shadow;
pub mod stored;
pub mod verified;

pub use action::{AuditAction, NewAction, RecordError, Status, record_action};
pub use actor::{ActorError, ActorRef, ActorType};
pub use adoption::Adoption;
pub use digest::Digest;
pub use install::install;
pub use receipt::Receipt;
pub use schema::{ActionTable, SchemaError, StorageSchema};
pub use schema_status::{ColumnMismatch, SchemaStatus, check_schema};
pub use stored::StoredAction;
