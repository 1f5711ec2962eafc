//! Evidence, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod claims;
mod commands;
mod library;
mod model;
mod observed;
mod reading;
mod recording;

use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use threadline::{StorageSchema, Timeline, evidence::Evidence};

/// A database with a timeline.
struct Recorded {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

impl Recorded {
    async fn nothing() -> anyhow::Result<Self> {
        let database = timeline_database().await?;
        let connection = database.connect().await?;
        let pool = PgPool::connect(&database.url).await?;
        Ok(Self { database, connection, timeline: Timeline::new(pool, StorageSchema::default()) })
    }

    /// What the library recorded for the fixtures, by a statement with its columns.
    async fn by_the_library() -> anyhow::Result<Self> {
        let mut recorded = Self::nothing().await?;
        for record in library::records() {
            library::insert(&mut recorded.connection, &record).await?;
        }
        Ok(recorded)
    }

    fn evidence(&self) -> Evidence {
        self.timeline.evidence()
    }
}

/// The ids of records, as they end.
fn ends(records: &Value) -> Vec<String> {
    let end = |record: &Value| record["id"].as_str().map(|id| id[id.len() - 2..].to_owned());
    records.as_array().into_iter().flatten().filter_map(end).collect()
}
