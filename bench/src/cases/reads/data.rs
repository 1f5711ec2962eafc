//! The same rows in databases with our tables, with the Elixir library's, and with ours as they were before indexes for reading.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{Layout, StorageSchema};

use crate::{
    cases::say,
    environment::{Environment, add_timeline},
};

/// The database with our tables.
pub(super) const OURS: &str = "reads_ours";
/// With the library's.
const LIBRARYS: &str = "reads_library";
/// With ours, as [`LAST_BEFORE`] had left them.
pub(super) const BEFORE: &str = "reads_before";

/// The last migration before those that are for reading.
const LAST_BEFORE: &str = "0018";

/// A million changes, as the tests of plans have them.
const MILLION: &str = include_str!("../../../../threadline/tests/query/million.sql");

/// What the other comparison makes of the library's tables.
const LIBRARY: &str = include_str!("../changes/library.sql");

const REST: &str = include_str!("library.sql");

/// How many rows there are of each kind.
#[derive(Debug, Clone, Copy)]
pub(in crate::cases) struct Rows {
    pub(super) actions: u64,
    pub(super) transactions: u64,
    pub(in crate::cases) changes: u64,
}

impl Rows {
    /// With so many changes, about.
    pub(in crate::cases) fn with(changes: u64) -> Self {
        Self { actions: changes / 5, transactions: changes * 3 / 10, changes: changes - 1 }
    }

    /// The statements that make them.
    fn script(self) -> anyhow::Result<String> {
        let replacements = [
            ("(1, 200000)", format!("(1, {})", self.actions)),
            ("(1000, 200000, 19000)", format!("(1000, {}, 19000)", self.actions)),
            ("(1, 300000)", format!("(1, {})", self.transactions)),
            ("(1, 999999)", format!("(1, {})", self.changes)),
            // Not numbers that this cluster gives out: the live tail and the writers have those.
            ("md5('t' || n)::uuid, n, timestamptz", "md5('t' || n)::uuid, -n, timestamptz".to_owned()),
        ];
        let mut script = MILLION.to_owned();
        for (from, to) in replacements {
            ensure!(script.matches(from).count() == 1, "million.sql has changed: {from:?} is not in it once");
            script = script.replace(from, &to);
        }
        Ok(script)
    }
}

/// Makes all three.
pub(super) async fn prepare(environment: &Environment, rows: Rows) -> anyhow::Result<()> {
    say(&format!("writing {} changes into three databases", rows.changes));
    with_our_tables(environment, OURS, rows).await?;
    let before = environment.sandbox.postgres.create_database(BEFORE, None).await?;
    for migration in migrations_before()? {
        run(&before, &migration).await?;
    }
    run(&before, &rows.script()?).await?;
    settle(&before).await?;
    with_the_librarys_tables(environment, LIBRARYS, OURS).await
}

/// Makes a database with the rows in our tables, as they are now.
pub(in crate::cases) async fn with_our_tables(
    environment: &Environment,
    name: &str,
    rows: Rows,
) -> anyhow::Result<()> {
    let url = environment.sandbox.postgres.create_database(name, None).await?;
    add_timeline(&url).await?;
    run(&url, &rows.script()?).await?;
    settle(&url).await
}

/// The table of the month that [`by_months`] fills.
pub(in crate::cases) const MONTH: &str = "audit_changes_2026_03";

/// The same with changes stored by months: all of these are of one, which half a million fill.
pub(in crate::cases) async fn by_months(
    environment: &Environment,
    name: &str,
    rows: Rows,
) -> anyhow::Result<()> {
    let url = environment.sandbox.postgres.create_database(name, None).await?;
    let mut connection = PgConnection::connect(&url).await?;
    threadline::install_as(&mut connection, &StorageSchema::default(), Layout::Monthly).await?;
    let month = format!(
        "create table {MONTH} partition of audit_changes for values from ('2026-03-01Z') to ('2026-04-01Z')"
    );
    connection.execute(AssertSqlSafe(month)).await?;
    connection.close().await?;
    run(&url, &rows.script()?).await?;
    settle(&url).await
}

/// Makes a database with the rows of another one in the library's tables.
pub(in crate::cases) async fn with_the_librarys_tables(
    environment: &Environment,
    name: &str,
    ours: &str,
) -> anyhow::Result<()> {
    let url = environment.sandbox.postgres.create_database(name, Some(ours)).await?;
    let tables = format!("create schema library;\n{}", LIBRARY.replace("@schema@", "library"));
    for script in [&tables, REST, "drop table audit_changes, audit_transactions, audit_actions cascade"] {
        let mut connection = PgConnection::connect(&url).await?;
        connection.execute(AssertSqlSafe(script.to_owned())).await?;
        connection.close().await?;
    }
    settle(&url).await
}

/// As of tables that live: nothing is left to be done while something is measured.
async fn settle(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute("vacuum (freeze, analyze)").await?;
    connection.execute("checkpoint").await?;
    Ok(connection.close().await?)
}

/// Where the library's tables are.
pub(super) fn library(environment: &Environment) -> String {
    environment.sandbox.postgres.url(LIBRARYS)
}

/// Statement by statement: some of them must not be part of a transaction.
async fn run(url: &str, script: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let parts: Vec<&str> =
        if script.contains("\nvacuum ") { script.split(";\n").collect() } else { vec![script] };
    for part in parts {
        connection.execute(AssertSqlSafe(part.to_owned())).await?;
    }
    connection.close().await?;
    Ok(())
}

/// The migrations up to [`LAST_BEFORE`], as they are in the sources.
fn migrations_before() -> anyhow::Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../threadline/migrations");
    let listed = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    let is_before = |path: &&std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.extension().is_some_and(|extension| extension == "sql")
            && name.get(..4).is_some_and(|number| number <= LAST_BEFORE)
    };
    paths.iter().filter(is_before).map(|path| fs::read_to_string(path).map_err(Into::into)).collect()
}
