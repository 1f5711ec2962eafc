//! Random histories of several connections against a reader that crashes at random pages.

use common::session::Session;
use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use sandbox::fixture::source_database;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::reader::{committed, insert, read, read_all};

const CONNECTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Inserts rows, beginning a transaction when none is open.
    Insert(usize, i32),
    /// Inserts rows and undoes them to a savepoint.
    Undo(usize, i32),
    Commit(usize),
    RollBack(usize),
    /// Two-phase: prepared now, decided by a later `Decide`.
    Prepare(usize),
    Decide(bool),
    /// Reads, and crashes after so many pages.
    Read {
        page_rows: usize,
        pages_max: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let connection = 0..CONNECTIONS;
    prop_oneof![
        5 => (connection.clone(), 1..8).prop_map(|(connection, rows)| Step::Insert(connection, rows)),
        1 => (connection.clone(), 1..4).prop_map(|(connection, rows)| Step::Undo(connection, rows)),
        4 => connection.clone().prop_map(Step::Commit),
        1 => connection.clone().prop_map(Step::RollBack),
        1 => connection.prop_map(Step::Prepare),
        1 => any::<bool>().prop_map(Step::Decide),
        4 => (1..6_usize, 0..6_usize).prop_map(|(page_rows, pages_max)| Step::Read { page_rows, pages_max }),
    ]
}

#[test]
fn any_history_is_read_completely_and_nothing_else_is() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&vec(step(), 1..60), |history| {
            runtime.block_on(play(&history)).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .unwrap();
}

async fn play(history: &[Step]) -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut writers = Vec::new();
    for _ in 0..CONNECTIONS {
        writers.push((database.session().await?, false));
    }
    let mut observer = database.session().await?;
    let mut prepared: Vec<String> = Vec::new();
    let mut handed_over: Vec<Uuid> = Vec::new();
    for step in history {
        match *step {
            Step::Insert(index, rows) => {
                begin(&mut writers[index]).await?;
                insert(&mut writers[index].0, rows).await?;
            }
            Step::Undo(index, rows) => {
                begin(&mut writers[index]).await?;
                let writer = &mut writers[index].0;
                writer.execute("savepoint undone").await?;
                insert(writer, rows).await?;
                writer.execute("rollback to savepoint undone").await?;
            }
            Step::Commit(index) => end(&mut writers[index], "commit").await?,
            Step::RollBack(index) => end(&mut writers[index], "rollback").await?,
            Step::Prepare(index) if writers[index].1 => {
                let name = Uuid::new_v4().to_string();
                let statement = format!("prepare transaction '{name}'");
                end(&mut writers[index], &statement).await?;
                prepared.push(name);
            }
            Step::Prepare(_) => {}
            Step::Decide(commits) => {
                if let Some(name) = prepared.pop() {
                    decide(&mut observer, &name, commits).await?;
                }
            }
            Step::Read { page_rows, pages_max } => {
                // A connection of its own: a crash leaves nothing in memory.
                let mut reader = database.session().await?;
                handed_over.extend(read(&mut reader, page_rows, pages_max).await?);
            }
        }
    }
    for writer in &mut writers {
        end(writer, "commit").await?;
    }
    for name in prepared {
        decide(&mut observer, &name, true).await?;
    }
    handed_over.extend(read_all(&mut observer, 4).await?);

    let handed_over: BTreeSet<Uuid> = handed_over.into_iter().collect();
    let committed: BTreeSet<Uuid> = committed(&mut observer).await?.into_iter().collect();
    let missing: Vec<_> = committed.difference(&handed_over).collect();
    let foreign: Vec<_> = handed_over.difference(&committed).collect();
    anyhow::ensure!(missing.is_empty(), "missing: {missing:?}");
    anyhow::ensure!(foreign.is_empty(), "foreign: {foreign:?}");
    Ok(())
}

async fn begin(writer: &mut (Session, bool)) -> anyhow::Result<()> {
    if !std::mem::replace(&mut writer.1, true) {
        writer.0.execute("begin").await?;
    }
    Ok(())
}

async fn end(writer: &mut (Session, bool), statement: &str) -> anyhow::Result<()> {
    if std::mem::take(&mut writer.1) {
        writer.0.execute(sqlx::AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

async fn decide(observer: &mut Session, name: &str, commits: bool) -> anyhow::Result<()> {
    let verb = if commits { "commit" } else { "rollback" };
    observer.execute(sqlx::AssertSqlSafe(format!("{verb} prepared '{name}'"))).await?;
    Ok(())
}
