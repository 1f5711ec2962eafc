//! The table of archives.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    StorageSchema,
    capture::HostTable,
    export::Manifest,
    horizon::{ARCHIVES, is_readable},
    query::{ReadError, Statement, clamped_time, serialize},
};

/// Archives that are listed at most.
pub const ARCHIVES_LISTED_MAX: u32 = 100_000;

/// Archives that the evidence of a run names; it counts the others.
const NAMED: usize = 1_000;

/// A row of `threadline_archives`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecordedArchive {
    /// Primary key.
    pub id: Uuid,
    /// The run that has written it.
    pub run: Uuid,
    /// `changes`, `transactions` or `actions`.
    pub what: String,
    /// The schema of the table whose changes it holds; none of changes of all tables.
    pub table_schema: Option<String>,
    /// Its name.
    pub table_name: Option<String>,
    /// What is not older is not in it.
    #[serde(serialize_with = "serialize::time")]
    pub cutoff: OffsetDateTime,
    /// The time of the oldest entry.
    #[serde(serialize_with = "serialize::optional_time")]
    pub first_entry_at: Option<OffsetDateTime>,
    /// The time of the newest one.
    #[serde(serialize_with = "serialize::optional_time")]
    pub last_entry_at: Option<OffsetDateTime>,
    /// Entries.
    pub rows: i64,
    /// Bytes of the file.
    pub bytes: i64,
    /// Where the file is, as a URL.
    pub location: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// The public key that signed the manifest.
    pub key: Option<String>,
    /// What was visible, as `pg_current_snapshot()` prints it.
    pub snapshot: String,
    /// When it was complete and verified.
    #[serde(serialize_with = "serialize::time")]
    pub archived_at: OffsetDateTime,
    /// When everything in it had been visited for deletion; none where its run ended before.
    #[serde(serialize_with = "serialize::optional_time")]
    pub deleted_at: Option<OffsetDateTime>,
}

/// What a run has archived, or would archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Archived {
    /// The folder of the run, as a URL; of a dry run the one that folders of runs are made in.
    pub location: String,
    /// Files.
    pub files: u64,
    /// Entries in them; of a dry run changes and actions.
    pub rows: u64,
    /// Their bytes; none of a dry run.
    pub bytes: u64,
}

/// An archive that is complete and verified.
pub(super) struct Complete<'a> {
    pub(super) run: Uuid,
    /// `changes`, `transactions` or `actions`.
    pub(super) what: &'a str,
    pub(super) table: Option<(&'a str, &'a str)>,
    pub(super) cutoff: OffsetDateTime,
    pub(super) manifest: &'a Manifest,
    pub(super) manifest_sha256: String,
    pub(super) location: String,
}

impl Complete<'_> {
    /// Records it; returns its id.
    pub(super) async fn insert(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Uuid, sqlx::Error> {
        let Self { run, what, table, cutoff, manifest, manifest_sha256, location } = self;
        let id = Uuid::now_v7();
        let optional = |text: Option<&str>, statement: &mut Statement| match text {
            Some(text) => drop(statement.bind(text)),
            None => drop(statement.push("null")),
        };
        let mut statement = Statement::new(format!(
            "insert into {} (id, run, what, table_schema, table_name, cutoff, first_entry_at, last_entry_at, rows, bytes, location,
                 sha256, manifest_sha256, key, snapshot) values (",
            storage.table(ARCHIVES)
        ));
        statement.bind(id).push(", ").bind(*run).push(", ").bind(*what).push(", ");
        optional(table.map(|(schema, _)| schema), &mut statement);
        optional(table.map(|(_, name)| name), statement.push(", "));
        statement.push(", ").bind(*cutoff).push(", ");
        // A file begins with its newest entry.
        optional(manifest.last_entry_at.as_deref(), &mut statement);
        optional(manifest.first_entry_at.as_deref(), statement.push("::timestamptz, "));
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        statement
            .push("::timestamptz, ")
            .bind(count(manifest.rows.total()))
            .push(", ")
            .bind(count(manifest.bytes));
        for text in [location, &manifest.sha256, manifest_sha256] {
            statement.push(", ").bind(text);
        }
        optional(manifest.key.as_deref(), statement.push(", "));
        statement.push(", ").bind(&manifest.snapshot).push(")");
        statement.query().execute(connection).await?;
        Ok(id)
    }
}

/// Where the recorded archives of these runs are.
pub(super) async fn locations(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    runs: Vec<Uuid>,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let mut statement =
        Statement::new(format!("select a.location from {} a where a.run = any (", storage.table(ARCHIVES)));
    statement.bind(runs).push(")");
    statement.fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Records that everything in an archive was visited for deletion.
pub(super) async fn mark_deleted(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    id: Uuid,
) -> Result<(), sqlx::Error> {
    let mut statement = Statement::new(format!(
        "update {} set deleted_at = clock_timestamp() where id = ",
        storage.table(ARCHIVES)
    ));
    statement.bind(id).query().execute(connection).await?;
    Ok(())
}

/// The archives of a run, or of all, the oldest first: [`ARCHIVES_LISTED_MAX`] at most, the newest ones.
///
/// # Errors
/// What the database says.
pub async fn archives(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    run: Option<Uuid>,
) -> Result<Vec<RecordedArchive>, ReadError> {
    let [cutoff, first, last, archived, deleted] =
        ["cutoff", "first_entry_at", "last_entry_at", "archived_at", "deleted_at"].map(|column| {
            format!("case when a.{column} is not null then {} end", clamped_time(&format!("a.{column}")))
        });
    let mut statement = Statement::new(format!(
        "select a.id, a.run, a.what, a.table_schema, a.table_name, {cutoff}, {first}, {last}, a.rows, a.bytes, a.location, a.sha256,
                a.manifest_sha256, a.key, a.snapshot, {archived}, {deleted} from {} a",
        storage.table(ARCHIVES)
    ));
    if let Some(run) = run {
        statement.push(" where a.run = ").bind(run);
    }
    statement.push(" order by a.archived_at desc, a.id desc limit ").bind(i64::from(ARCHIVES_LISTED_MAX));
    let rows = statement.fetch_all(connection).await?;
    Ok(rows.iter().rev().map(recorded).collect::<Result<_, _>>()?)
}

fn recorded(row: &PgRow) -> Result<RecordedArchive, sqlx::Error> {
    Ok(RecordedArchive {
        id: row.try_get(0)?,
        run: row.try_get(1)?,
        what: row.try_get(2)?,
        table_schema: row.try_get(3)?,
        table_name: row.try_get(4)?,
        cutoff: row.try_get(5)?,
        first_entry_at: row.try_get(6)?,
        last_entry_at: row.try_get(7)?,
        rows: row.try_get(8)?,
        bytes: row.try_get(9)?,
        location: row.try_get(10)?,
        sha256: row.try_get(11)?,
        manifest_sha256: row.try_get(12)?,
        key: row.try_get(13)?,
        snapshot: row.try_get(14)?,
        archived_at: row.try_get(15)?,
        deleted_at: row.try_get(16)?,
    })
}

/// Tables that archives hold the changes of by themselves; none where the role may not see it.
pub(in crate::retention) async fn tables(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<HostTable>, sqlx::Error> {
    if !is_readable(connection, storage).await? {
        return Ok(Vec::new());
    }
    let statement = Statement::new(format!(
        "select distinct a.table_schema, a.table_name from {} a where a.table_schema is not null and a.table_name is not null",
        storage.table(ARCHIVES)
    ));
    let table = |row: &PgRow| Ok(HostTable { schema: row.try_get(0)?, name: row.try_get(1)? });
    statement.fetch_all(connection).await?.iter().map(table).collect()
}

/// What runs have archived, by their ids; nothing where the role may not see it.
pub(in crate::retention) async fn of_runs(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    runs: Vec<Uuid>,
) -> Result<Vec<(Uuid, Archived)>, sqlx::Error> {
    if runs.is_empty() || !is_readable(connection, storage).await? {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new(format!(
        "select a.run, min(regexp_replace(a.location, '/[^/]*$', '')), count(*), sum(a.rows)::int8, sum(a.bytes)::int8 from {} a
         where a.run = any (",
        storage.table(ARCHIVES)
    ));
    statement.bind(runs).push(") group by a.run");
    let count = |row: &PgRow, index: usize| -> Result<u64, sqlx::Error> {
        Ok(row.try_get::<i64, _>(index)?.try_into().unwrap_or_default())
    };
    let archived = |row: &PgRow| {
        let (files, rows, bytes) = (count(row, 2)?, count(row, 3)?, count(row, 4)?);
        Ok((row.try_get(0)?, Archived { location: row.try_get(1)?, files, rows, bytes }))
    };
    statement.fetch_all(connection).await?.iter().map(archived).collect()
}

/// What the evidence of a run says of its archives; none where there are none.
pub(in crate::retention) async fn evidence(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    run: Uuid,
) -> Result<Option<Value>, sqlx::Error> {
    let Some((_, archived)) = of_runs(connection, storage, vec![run]).await?.pop() else { return Ok(None) };
    let mut statement = Statement::new(format!(
        "select a.sha256, a.manifest_sha256 from {} a where a.run = ",
        storage.table(ARCHIVES)
    ));
    statement
        .bind(run)
        .push(" order by a.archived_at, a.id limit ")
        .bind(i64::try_from(NAMED).unwrap_or(i64::MAX));
    let mut digests = Vec::new();
    for row in statement.fetch_all(connection).await? {
        let (sha256, manifest_sha256): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        digests.push(json!({"sha256": sha256, "manifest_sha256": manifest_sha256}));
    }
    let mut said = json!(archived);
    said["digests"] = digests.into();
    Ok(Some(said))
}
