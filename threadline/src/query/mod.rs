//! Reading the timeline: one [`Filter`], one [`Scope`] that is part of every statement, and the questions that people ask.
//!
//! A [`Reader`] is a timeline and a scope. Everything that reads goes through it: the command line, exports, the operator surface.
//!
//! ```no_run
//! use threadline::{Timeline, query::{Filter, PageRequest, Scope}};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let reader = timeline.reader(Scope::of_context("tenant", "t1"));
//! let filter: Filter = "table:posts op:update last:24h".parse()?;
//! for entry in reader.page(&filter, &PageRequest::default()).await?.entries {
//!     println!("{} {}", entry.at(), entry.id());
//! }
//! # Ok(())
//! # }
//! ```

mod condition;
mod count;
mod cursor;
mod entry;
mod error;
pub mod filter;
mod page;
mod place;
mod plan;
mod resolve;
pub mod row;
mod scope;
mod serialize;
mod snapshot;
mod statement;
mod streams;
mod tail;
mod timeline;
mod transaction;

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use time::{OffsetDateTime, UtcOffset};

pub use cursor::{Cursor, CursorError};
pub use entry::{Action, Change, Entry, Json, LinkedAction, Transaction};
pub use error::ReadError;
pub use filter::{Changed, Filter, FilterError, Instant, Key, Kind, Name, Op, Span, Table, Window};
pub use page::{Count, From, PAGE_SIZE, PAGE_SIZE_MAX, Page, PageRequest, VISITED_MAX};
pub use scope::{Rule, Scope};
pub use statement::Statement;
pub use tail::{Batch, Position, Tail};
pub use transaction::{TransactionContext, TransactionPage, TransactionSummary};

use place::Place;

use crate::StorageSchema;

/// A timeline as somebody may see it.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: PgPool,
    schema: StorageSchema,
    scope: Scope,
}

impl Reader {
    /// The timeline in `schema` of the database that `pool` leads to, as far as `scope` shows it.
    #[must_use]
    pub fn new(pool: PgPool, schema: StorageSchema, scope: Scope) -> Self {
        Self { pool, schema, scope }
    }

    /// What it shows.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.pool.acquire().await
    }
}

/// RFC 3339 in UTC, always with six decimals.
#[must_use]
pub fn time_text(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}
