//! `threadline gen-triggers`: settings and flags become triggers, as migrations or at once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{Capture, DeployedPolicy, HostTable, Migration, PlanError, Policy, Refusal, names, plan},
};
use time::{OffsetDateTime, macros::format_description};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    expectations::CaptureSection,
    settings::{Settings, Target},
};

const CAPTURED: &str = "What is captured";
const INSTEAD: &str = "Instead of printing a migration";

/// What the command line says.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(crate) struct Arguments {
    /// Which tables, as NAME or SCHEMA.NAME; without it all that the section [capture] has.
    #[arg(long, value_delimiter = ',', value_name = "TABLES", help_heading = CAPTURED, value_parser = NonEmptyStringValueParser::new())]
    tables: Vec<String>,
    /// Where triggers fire; without it, once for each statement where that misses nothing, and otherwise once for each row.
    #[arg(long, value_name = "row|statement", help_heading = CAPTURED, value_parser = NonEmptyStringValueParser::new())]
    level: Option<String>,
    /// Columns that are not stored in addition to those of the settings.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", help_heading = CAPTURED, value_parser = NonEmptyStringValueParser::new())]
    exclude: Vec<String>,
    /// Columns of which a placeholder is stored in addition to those of the settings.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", help_heading = CAPTURED, value_parser = NonEmptyStringValueParser::new())]
    mask: Vec<String>,
    /// Columns that are stored and do not count as changed in addition to those of the settings.
    #[arg(long, visible_alias = "except", value_delimiter = ',', value_name = "COLUMNS", help_heading = CAPTURED, value_parser = NonEmptyStringValueParser::new())]
    except_columns: Vec<String>,
    /// Stores values before an update, whatever the settings say.
    #[arg(long, help_heading = CAPTURED)]
    store_changed_from: bool,
    /// Leaves the tables to the Elixir library: one row trigger under the name of its own, which its migration replaces without a gap.
    /// Under the policy that is deployed, where neither settings nor flags have one.
    #[arg(long, conflicts_with = "level")]
    to_library: bool,
    /// Says what would be captured, a line for each table, and writes nothing.
    #[arg(long, help_heading = INSTEAD, conflicts_with_all = ["out", "apply"])]
    dry_run: bool,
    /// Writes a migration into this directory, which is made where it is not there, as sqlx reads them: up, and down.
    #[arg(long, value_name = "DIR", help_heading = INSTEAD, conflicts_with = "apply")]
    out: Option<PathBuf>,
    /// Makes the triggers in the database at once, in one transaction.
    #[arg(long, help_heading = INSTEAD)]
    apply: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, capture, .. } = Settings::read(target)?;
    let tables = wanted(&capture, arguments)?;
    let rights = if arguments.apply { Rights::Owner } else { Rights::Reader };
    on_timeline(&options, rights, async |connection| generate(connection, &schema, tables, arguments).await)
}

/// A table, and what settings and flags say of it.
struct Wanted {
    table: HostTable,
    policy: Policy,
    /// Whether the settings have a section of it.
    is_in_settings: bool,
}

/// Tables and policies of settings and flags.
///
/// # Errors
/// What of them cannot be used.
fn wanted(section: &CaptureSection, arguments: &Arguments) -> Result<Vec<Wanted>, Refusal> {
    let sections = section.by_table()?;
    let tables: Vec<HostTable> = if arguments.tables.is_empty() {
        sections.keys().cloned().collect()
    } else {
        arguments.tables.iter().map(|name| name.parse()).collect::<Result<_, _>>()?
    };
    if tables.is_empty() {
        let mut none = refusal("no_tables", "no table is named".to_owned());
        none.hint = Some("--tables, or a section [capture.tables.\"schema.table\"] in audit.toml".to_owned());
        return Err(none);
    }
    let policy = |table: HostTable| {
        let mut options = sections.get(&table).cloned().unwrap_or_default();
        if let Some(level) = &arguments.level {
            options.insert("level".to_owned(), json!(level));
        }
        if arguments.store_changed_from {
            options.insert("store_changed_from".to_owned(), json!(true));
        }
        for (option, more) in [
            ("exclude", &arguments.exclude),
            ("mask", &arguments.mask),
            ("except", &arguments.except_columns),
        ] {
            // What is no list is refused below.
            let columns = options.entry(option).or_insert_with(|| json!([]));
            if let Some(columns) = columns.as_array_mut() {
                columns.extend(more.iter().map(|column| json!(column)));
            }
        }
        let policy = Policy::read(&table, &options)?;
        Ok(Wanted { is_in_settings: sections.contains_key(&table), table, policy })
    };
    tables.into_iter().map(policy).collect()
}

fn refusal(term: &'static str, reason: String) -> Refusal {
    Refusal { term, reason, hint: None }
}

/// Reads the tables and does what the arguments say: answers what is to be printed.
///
/// # Errors
/// A refusal, what the server says, or files that cannot be written.
async fn generate(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    mut wanted: Vec<Wanted>,
    arguments: &Arguments,
) -> anyhow::Result<String> {
    let kept = keep_deployed(connection, schema, &mut wanted, arguments).await?;
    let tables: Vec<(HostTable, Policy)> = wanted.into_iter().map(|one| (one.table, one.policy)).collect();
    let captures = plan(connection, schema, &tables).await.map_err(|error| match error {
        PlanError::Refused(refusal) => anyhow::Error::new(refusal),
        error => anyhow::Error::new(error).context("cannot read the tables"),
    })?;
    if !arguments.json {
        for capture in captures.iter().filter(|capture| kept.contains(&capture.table.name)) {
            let _ = writeln!(io::stderr(), "its policy is the one that is deployed: {}", line(capture));
        }
    }
    if arguments.dry_run {
        return Ok(if arguments.json { described(&captures, &[]) } else { lines(captures.iter().map(line)) });
    }
    if let Some(directory) = &arguments.out {
        let files = write(directory, &captures, arguments.to_library)?;
        return Ok(if arguments.json {
            described(&captures, &files)
        } else {
            lines(files.iter().map(|file| file.display().to_string()))
        });
    }
    let migration = migration(&captures, 1, arguments.to_library);
    if arguments.apply {
        let mut transaction = connection.begin().await?;
        transaction
            .execute(AssertSqlSafe(migration.up))
            .await
            .context("cannot make the triggers; nothing has changed")?;
        transaction.commit().await?;
        if arguments.json {
            return Ok(described(&captures, &[]));
        }
        let tables: Vec<HostTable> = captures.iter().map(|capture| capture.table.name.clone()).collect();
        let deployed = deployed(connection, schema, &tables).await?;
        return Ok(lines(captures.iter().map(|capture| match deployed.get(&capture.table.name) {
            Some(deployed) if deployed.is_off() => still_off(capture),
            _ if arguments.to_library => format!("left to the library: {}", line(capture)),
            _ => format!("captured: {}", line(capture)),
        })));
    }
    Ok(migration.up)
}

/// What the deployed policy hides stays hidden where the settings do not name the table: what is left to the library keeps that policy,
/// if no flag says another one; anything else is refused. Returns the tables that keep theirs.
///
/// # Errors
/// A refusal, or what the server says.
async fn keep_deployed(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    wanted: &mut [Wanted],
    arguments: &Arguments,
) -> anyhow::Result<Vec<HostTable>> {
    let undecided: Vec<HostTable> =
        wanted.iter().filter(|one| !one.is_in_settings).map(|one| one.table.clone()).collect();
    if undecided.is_empty() {
        return Ok(Vec::new());
    }
    let deployed = deployed(connection, schema, &undecided).await?;
    let has_flags = arguments.store_changed_from
        || [&arguments.exclude, &arguments.mask, &arguments.except_columns]
            .iter()
            .any(|flag| !flag.is_empty());
    let mut kept = Vec::new();
    for one in wanted.iter_mut().filter(|one| !one.is_in_settings) {
        let Some(deployed) = deployed.get(&one.table) else { continue };
        if arguments.to_library
            && !has_flags
            && let Some(policy) = deployed.policy()
        {
            one.policy = policy;
            kept.push(one.table.clone());
        }
        deployed.check(&one.policy)?;
    }
    Ok(kept)
}

async fn deployed(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    tables: &[HostTable],
) -> anyhow::Result<BTreeMap<HostTable, DeployedPolicy>> {
    DeployedPolicy::read(connection, schema, tables)
        .await
        .context("cannot read the policies that are deployed")
}

/// What is said of triggers that are there and disabled.
fn still_off(capture: &Capture) -> String {
    let table = &capture.table.name;
    let on = format!("threadline capture on --tables {table} --actor TYPE:ID --reason TEXT");
    format!("capture is off, and the triggers stay disabled: {}; {on} switches it on", line(capture))
}

/// The nth of these tables: to capture them, or to leave them to the library.
fn migration(captures: &[Capture], ordinal: usize, to_library: bool) -> Migration {
    if to_library {
        return Migration::to_library(captures, ordinal);
    }
    Migration::new(captures, ordinal, |capture| ordinal > 1 || capture.is_rerun())
}

/// A line for people.
fn line(capture: &Capture) -> String {
    let policy = &capture.policy;
    let mut text = format!(
        "table={} level={} key={}",
        capture.table.name,
        capture.level.as_str(),
        capture.key.join(",")
    );
    let paths: Vec<String> = policy.paths.iter().map(|path| path.join(".")).collect();
    for (option, columns) in [
        ("exclude", &policy.exclude),
        ("mask", &policy.mask),
        ("hash", &policy.hash),
        ("paths", &paths),
        ("except", &policy.except),
    ] {
        let _ = write!(text, " {option}={}", columns.join(","));
    }
    if let Some(why) = capture.table.blind_spot() {
        let _ = write!(text, " (row level: statement level would not do, {why})");
    }
    if capture.table.is_unlogged() {
        text.push_str(" (unlogged: a crash empties it, which nothing records)");
    }
    text
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.fold(String::new(), |text, line| text + &line + "\n")
}

fn described(captures: &[Capture], files: &[PathBuf]) -> String {
    let tables: Vec<Value> = captures
        .iter()
        .map(|capture| {
            json!({
                "table": capture.table.name.to_string(), "level": capture.level.as_str(), "key": capture.key,
                "policy": capture.policy, "unlogged": capture.table.is_unlogged(), "row_level_because": capture.table.blind_spot(),
            })
        })
        .collect();
    format!("{}\n", json!({"tables": tables, "files": files}))
}

/// Both files of a migration that sorts after all that are there.
fn write(directory: &Path, captures: &[Capture], to_library: bool) -> anyhow::Result<Vec<PathBuf>> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("cannot make the folder {}: the one that it is to be in is not there", directory.display());
        }
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make the folder {}", directory.display()));
        }
        _ => {}
    }
    let listed = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut versions: Vec<u64> = Vec::new();
    let mut present: Vec<String> = Vec::new();
    for entry in listed {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((version, rest)) = name.split_once('_')
            && let Ok(version) = version.parse()
        {
            versions.push(version);
            present.extend(rest.strip_suffix(".up.sql").map(str::to_owned));
        }
    }
    let now =
        OffsetDateTime::now_utc().format(format_description!("[year][month][day][hour][minute][second]"))?;
    let version = versions.into_iter().max().map_or(0, |newest| newest + 1).max(now.parse()?);
    let tables: Vec<HostTable> = captures.iter().map(|capture| capture.table.name.clone()).collect();
    let mut ordinal = 1;
    while present.contains(&names::migration(&tables, ordinal)) {
        ordinal += 1;
    }
    let migration = migration(captures, ordinal, to_library);
    let files = [("up", &migration.up), ("down", &migration.down)];
    let mut written = Vec::new();
    for (way, sql) in files {
        let path = directory.join(format!("{version}_{}.{way}.sql", migration.name));
        fs::write(&path, sql).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}
