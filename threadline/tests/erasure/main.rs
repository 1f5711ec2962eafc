//! Erasure, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, clippy::similar_names, clippy::large_futures, reason = "tests")]

mod actors;
mod beside;
mod commands;
mod kills;
mod markers;
mod persons;
mod readers;
mod receipts;
mod refusals;
mod rights;
mod rows;
mod telemetry;

use std::{collections::BTreeMap, io::Cursor};

use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{Capture, HostTable, Migration, Policy, plan},
    erasure::{Erased, Erasure, ErasureError, ErasureOptions, ErasurePolicy},
    query::{Key, Scope},
    receipts::{Span, Trust, Verification, bundle, seal, verify, verify_bundle},
};

/// Tables of a host's.
const HOST: &str = "
    create table users (id bigint primary key, email text, name text, logins int);
    create table posts (id bigint primary key, author_id bigint, body text, meta jsonb);
    create table notes (author_id bigint, body text)";

/// A trigger that says no key, as the Elixir library's does of a table without one.
const KEYLESS: &str = "
    create function capture_note() returns trigger language plpgsql as $$
    declare
        transaction uuid;
    begin
        insert into audit_transactions (txid) values (txid_current())
        on conflict (txid) do update set txid = excluded.txid returning id into transaction;
        insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
        values (transaction, tg_table_schema, tg_table_name, '{}', lower(tg_op), to_jsonb(new));
        return null;
    end $$;
    create trigger capture_note after insert or update on notes for each row execute function capture_note()";

/// A database with a timeline and captured tables.
struct Host {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

async fn host() -> anyhow::Result<Host> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    connection.execute(HOST).await?;
    let mut tables = Vec::new();
    for name in ["users", "posts"] {
        let table: HostTable = name.parse()?;
        let policy = Policy::read(&table, json!({}).as_object().unwrap())?;
        tables.push((table, policy));
    }
    let captures = plan(&mut connection, &StorageSchema::default(), &tables).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    connection.execute(KEYLESS).await?;
    let pool = PgPool::connect(&database.url).await?;
    Ok(Host { database, connection, timeline: Timeline::new(pool, StorageSchema::default()) })
}

impl Host {
    async fn run(&mut self, sql: impl Into<String>) -> anyhow::Result<()> {
        self.connection.execute(AssertSqlSafe(sql.into())).await?;
        Ok(())
    }

    /// In a transaction of somebody's.
    async fn as_actor(&mut self, actor: &Value, context: &Value, sql: &str) -> anyhow::Result<()> {
        self.run(format!(
            "begin; select set_config('threadline.actor_ref', '{actor}', true), set_config('threadline.context', '{context}', true);
             {sql}; commit"
        ))
        .await
    }

    async fn count(&mut self, from: &str) -> anyhow::Result<i64> {
        let statement = format!("select count(*) from {from}");
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?)
    }

    /// The first column of each row, as text.
    async fn texts(&mut self, sql: &str) -> anyhow::Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection).await?)
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, ErasureError> {
        self.timeline.erase(erasure, &ErasureOptions::because("request R-98765")).await
    }

    async fn dry_run(&self, erasure: &Erasure) -> Result<Erased, ErasureError> {
        self.timeline.erase(erasure, &ErasureOptions::dry_run()).await
    }

    async fn seal(&self) -> anyhow::Result<()> {
        seal(&self.timeline, None, |_| {}).await?;
        Ok(())
    }

    async fn verify(&self) -> anyhow::Result<Verification> {
        Ok(verify(&self.timeline, &Trust::nothing(), |_| {}).await?)
    }

    async fn bundle(&self) -> anyhow::Result<Vec<u8>> {
        let mut written = Vec::new();
        bundle(&self.timeline, Span::default(), &mut written, |_| {}).await?;
        Ok(written)
    }

    /// What is found online, and what in a bundle.
    async fn both(&self) -> anyhow::Result<[Verification; 2]> {
        Ok([self.verify().await?, offline(&self.bundle().await?)?])
    }

    /// The tables of the timeline in which a text stands, whatever their columns are.
    async fn tables_with(&mut self, text: &str) -> anyhow::Result<Vec<String>> {
        let tables = self
            .texts("select tablename::text from pg_tables where schemaname = 'public' and (tablename like 'audit%' or tablename like 'threadline%') order by 1")
            .await?;
        assert!(tables.len() > 10, "{tables:?}");
        let mut found = Vec::new();
        for table in tables {
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
                "select count(*) from {table} r where strpos(r::text, $1) > 0"
            )))
            .bind(text)
            .fetch_one(&mut self.connection)
            .await?;
            if rows > 0 {
                found.push(table);
            }
        }
        Ok(found)
    }

    fn reader(&self) -> threadline::query::Reader {
        self.timeline.reader(Scope::everything())
    }
}

fn offline(bundle: &[u8]) -> anyhow::Result<Verification> {
    Ok(verify_bundle(Cursor::new(bundle), &Trust::nothing(), |_| {})?)
}

/// A row of a table by its id.
fn row(table: &str, id: impl std::fmt::Display) -> Erasure {
    Erasure::Row {
        table: table.parse().unwrap(),
        key: Key::Value(id.to_string()),
        columns: Vec::new(),
        key_too: false,
    }
}

fn only(erasure: Erasure, names: &[&str]) -> Erasure {
    match erasure {
        Erasure::Row { table, key, key_too, .. } => {
            let columns = names.iter().map(|name| (*name).to_owned()).collect();
            Erasure::Row { table, key, columns, key_too }
        }
        other => other,
    }
}

fn with_key(erasure: Erasure) -> Erasure {
    match erasure {
        Erasure::Row { table, key, columns, .. } => Erasure::Row { table, key, columns, key_too: true },
        other => other,
    }
}

fn actor(kind: &str, id: &str, texts: bool) -> Erasure {
    let actor = threadline::ActorRef::new(kind.parse().unwrap(), Some(id)).unwrap();
    Erasure::Actor { actor, texts }
}

fn table(name: &str) -> HostTable {
    name.parse::<HostTable>().map_err(|refusal| refusal.to_string()).unwrap()
}

/// Users by their ids, posts and notes by their authors.
fn policy() -> ErasurePolicy {
    ErasurePolicy::default()
        .table(table("users"), "id", ["email", "name"])
        .table(table("posts"), "author_id", ["body"])
        .table(table("notes"), "author_id", ["body"])
}

fn person(id: &str) -> Erasure {
    Erasure::Person { id: id.to_owned(), policy: policy() }
}

/// Values by `table.column`.
fn values(erased: &Erased) -> BTreeMap<String, u64> {
    let tables = erased.counts.values.iter();
    tables
        .flat_map(|(table, columns)| {
            columns.iter().map(move |(column, count)| (format!("{table}.{column}"), *count))
        })
        .collect()
}

fn counted(values: &[(&str, u64)]) -> BTreeMap<String, u64> {
    values.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The terms of what was found, each as often as it was.
fn terms(found: &Verification) -> Vec<String> {
    let counts = found.faults.counts.iter();
    counts.flat_map(|(kind, count)| (0..*count).map(|_| kind.term().to_owned())).collect()
}

fn term<T: std::fmt::Debug>(erased: Result<T, ErasureError>) -> Option<&'static str> {
    erased.unwrap_err().term()
}
