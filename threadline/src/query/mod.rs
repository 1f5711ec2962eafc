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

mod activity;
mod again;
mod alone;
pub mod canonical;
mod condition;
mod correlated;
mod count;
mod cursor;
pub mod diff;
mod direction;
mod entry;
mod error;
pub mod filter;
mod find;
mod joins;
mod library_row;
mod names;
mod origin;
mod page;
mod parts;
mod place;
mod plan;
mod position;
mod resolve;
pub mod row;
mod scope;
pub(crate) mod serialize;
mod snapshot;
mod statement;
mod stop;
mod streams;
mod tables;
mod tail;
mod timeline;
mod transaction;
pub mod undo;
mod used;
mod whole;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use time::{OffsetDateTime, UtcOffset};

pub use activity::{ACTIVITY_MAX, Activity, Frequency};
pub(crate) use condition::{IS_EVENT, push_where_actor};
pub use cursor::{Cursor, CursorError};
pub use diff::{BeforeValues, CompatibleChange, Diff, DiffOptions, FieldChange, FieldKind};
pub(crate) use entry::clamped_time;
pub use entry::{Action, Change, Entry, Json, LinkedAction, Transaction};
pub use error::ReadError;
pub use filter::{Changed, Filter, FilterError, Instant, Key, Kind, Name, Op, Span, Table, Window};
pub use find::Found;
pub use names::Names;
pub use page::{Count, From, PAGE_SIZE, PAGE_SIZE_MAX, Page, PageRequest, VISITED_MAX};
pub use parts::{PartsRequest, TABLES_MAX, TablePart, TransactionParts};
pub use position::Position;
pub use scope::{Rule, Scope};
pub use statement::Statement;
pub(crate) use statement::{is_canceled, limit_time};
pub use tail::{Batch, Newest, Tail};
pub use transaction::{Neighbours, TransactionContext, TransactionPage, TransactionSummary};
pub use undo::{Refused, Step, StepKind, Undo, UndoPlan};

pub(crate) use again::{Again, again, each as each_again};
pub(crate) use alone::Alone;
pub(crate) use canonical::{Canonical, Form};
pub(crate) use entry::{clamped, json, known};
pub(crate) use library_row::{LibraryRow, LibraryTransaction};
pub(crate) use origin::{Ends, Origin, Position as WholePosition, database};
pub(crate) use row::{Reading, RowChanges, TableChanges};
pub(crate) use tables::recorded_tables;
pub(crate) use whole::{Shape, Stretch, Whole};

use place::Place;

use crate::StorageSchema;

/// A timeline as somebody may see it.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: PgPool,
    schema: StorageSchema,
    scope: Scope,
    /// What was asked, where somebody wants to see it.
    asked: Option<Arc<Mutex<Vec<Statement>>>>,
}

impl Reader {
    /// The timeline in `schema` of the database that `pool` leads to, as far as `scope` shows it.
    #[must_use]
    pub fn new(pool: PgPool, schema: StorageSchema, scope: Scope) -> Self {
        Self { pool, schema, scope, asked: None }
    }

    /// What it shows.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same, and keeps the statements of questions about rows, which take several: [`Self::asked`].
    #[must_use]
    pub fn keeping_statements(&self) -> Self {
        Self { asked: Some(Arc::default()), ..self.clone() }
    }

    /// The statements that were kept so far; of those that differ in their values alone, the first one.
    #[must_use]
    pub fn asked(&self) -> Vec<Statement> {
        let asked =
            self.asked.as_ref().map(|asked| asked.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut texts = HashSet::new();
        asked
            .unwrap_or_default()
            .into_iter()
            .filter(|statement| texts.insert(statement.text().to_owned()))
            .collect()
    }

    fn keep(&self, statement: &Statement) {
        if let Some(asked) = &self.asked {
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(statement.clone());
        }
    }

    /// The schema that the timeline is in.
    #[must_use]
    pub fn schema(&self) -> &StorageSchema {
        &self.schema
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
