//! The audit timeline store. It knows nothing of the pipeline that fills it: any program may record actions.
//!
//! A [`Timeline`] is a pool and a schema. An [`Action`] says who did what; it is recorded in the host's own transaction, or in one of its own:
//!
//! ```no_run
//! use threadline::{Action, ActorRef, ActorType, StorageSchema, Timeline};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::PgPool::connect("postgres://app@localhost/app").await?;
//! let timeline = Timeline::new(pool, StorageSchema::default());
//! timeline.install().await?;
//!
//! let admin = ActorRef::new(ActorType::Admin, Some("a1"))?;
//! let mut transaction = timeline.pool().begin().await?;
//! // … what the application does …
//! Action::new("user.suspended", admin).reason("fraud").record(&mut transaction, timeline.schema()).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Where triggers capture changes, [`Timeline::transaction`] links them to the action and its [`AuditContext`].
//!
//! [`ActorRef`] says who, [`action`] is a row of what was done, [`fn@install`] creates the tables in a [`StorageSchema`], [`fn@check_schema`]
//! says whether they are there and may be written to. [`coverage`] says which
//! tables are captured, and what is wrong. [`adoption`] knows what others have brought in, [`verified`] writes where a host's triggers and rules act. [`stored`] reads actions back for a comparison, [`mod@digest`] sums
//! them up, [`mod@receipt`] keeps the sums, [`receipts`] are of everything else, [`shadow`] builds the table again. [`retention`] deletes what a policy no longer keeps. [`telemetry`] says how the work goes, and nothing of the data; [`gauges`] are the
//! state of a timeline as figures. [`views`] are filters that somebody has saved. The tables
//! and their meaning are those of the Elixir library of the same name, over whose installation this one runs.

pub mod action;
pub mod actor;
pub mod adoption;
pub mod audited;
mod batches;
pub mod capture;
pub mod catalog;
pub mod context;
pub mod continuity;
pub mod coverage;
pub mod digest;
pub mod doctor;
pub mod erasure;
pub mod evidence;
pub mod export;
pub mod gauges;
mod horizon;
pub mod install;
pub mod lease;
mod nearest;
pub mod partitions;
pub mod query;
pub mod receipt;
pub mod receipts;
pub mod record;
pub mod retention;
pub mod schema;
pub mod schema_status;
pub mod shadow;
pub mod signing;
pub mod storage;
pub mod stored;
pub mod telemetry;
pub mod timeline;
#[cfg(feature = "tower")]
pub mod tower;
pub mod views;
pub mod visible;

pub use action::{AuditAction, Status, verified};
pub use actor::{ActorError, ActorRef, ActorType};
pub use adoption::Adoption;
pub use audited::{Audited, AuditedError, AuditedTransaction};
pub use context::AuditContext;
pub use digest::Digest;
pub use install::{Installation, install, install_as};
pub use partitions::Layout;
pub use receipt::Receipt;
pub use record::Action;
pub use schema::{ActionTable, SchemaError, StorageSchema};
pub use schema_status::{ColumnMismatch, SchemaStatus, check_schema};
pub use stored::StoredAction;
pub use timeline::Timeline;
