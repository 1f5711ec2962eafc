//! What is deployed for a table whose triggers are to be made again: its policy with the names that columns have now, and the command
//! that keeps it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use sqlx::PgConnection;

use super::{
    names::{FunctionPrefix, HostTable},
    policy::{Level, Policy, refused},
    refusal::Refusal,
    stored::StoredPolicy,
    table::Table,
};
use crate::StorageSchema;

/// The stored policy of a table, and the table as it is.
#[derive(Debug, Clone)]
pub struct DeployedPolicy {
    stored: StoredPolicy,
    shape: Table,
}

/// The same, of what others have read.
#[derive(Clone, Copy)]
pub(crate) struct Deployed<'a> {
    pub(crate) stored: &'a StoredPolicy,
    pub(crate) shape: &'a Table,
}

/// Columns that are not what they were when the triggers were made.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ColumnDrift {
    /// From and to.
    pub(crate) renamed: Vec<(String, String)>,
    pub(crate) missing: Vec<String>,
    added: Vec<String>,
}

impl DeployedPolicy {
    /// Of those of the tables that have one: under their name, or from before they were renamed.
    ///
    /// # Errors
    /// When the server is away, or the role may not read the stored policies.
    pub async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        tables: &[HostTable],
    ) -> Result<BTreeMap<HostTable, Self>, sqlx::Error> {
        let policies = StoredPolicy::read(connection, storage).await?;
        let shapes =
            if policies.is_empty() { BTreeMap::new() } else { Table::read_all(connection, tables).await? };
        let mut deployed = BTreeMap::new();
        for (table, shape) in shapes {
            let mut stored = policies.iter().find(|one| one.table == table);
            if stored.is_none()
                && let Some(earlier) = policies.iter().find(|one| one.oid == shape.oid)
                && was_made_for(connection, earlier, &shape).await?
            {
                stored = Some(earlier);
            }
            if let Some(stored) = stored.cloned() {
                deployed.insert(table, Self { stored, shape });
            }
        }
        Ok(deployed)
    }

    /// Whether capture of the table is switched off, so that triggers which are made for it are disabled.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.stored.off.is_some()
    }

    fn borrowed(&self) -> Deployed<'_> {
        Deployed { stored: &self.stored, shape: &self.shape }
    }

    /// With the names that columns have now. `None` for one that cannot be read.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        self.borrowed().policy()
    }

    /// The command that makes the triggers under it again. Nothing where no command line can say it.
    pub(crate) fn command(&self) -> Option<String> {
        self.borrowed().command(None)
    }

    /// Whether a policy hides all that the deployed one hides.
    ///
    /// # Errors
    /// The columns that it would not hide any more, and what keeps them hidden.
    pub fn check(&self, policy: &Policy) -> Result<(), Refusal> {
        let table = &self.shape.name;
        let section = format!(
            "a section [capture.tables.\"{table}\"] of the settings, even an empty one, decides what is hidden"
        );
        let Some(deployed) = self.policy() else {
            let reason = "the policy that is deployed cannot be read, and may hide columns";
            return Err(refused(table, "policy_dropped", reason).hint(section));
        };
        let hidden = policy.redacted();
        let dropped: Vec<String> =
            deployed.redacted().into_iter().filter(|column| !hidden.contains(column)).collect();
        if dropped.is_empty() {
            return Ok(());
        }
        let reason =
            format!("the deployed policy hides what would be stored in clear: {}", dropped.join(", "));
        let hint = match self.command() {
            Some(command) => format!("{command} keeps it hidden; {section}"),
            None => section,
        };
        Err(refused(table, "policy_dropped", &reason).hint(hint))
    }
}

/// Whether the policy of another name is that of the table, which was renamed: nothing has that name now, or the table's triggers call the
/// functions of that name. Its number alone says nothing after a restore into another cluster.
async fn was_made_for(
    connection: &mut PgConnection,
    stored: &StoredPolicy,
    shape: &Table,
) -> Result<bool, sqlx::Error> {
    let functions: Vec<String> =
        FunctionPrefix::ALL.iter().map(|prefix| stored.table.function(*prefix)).collect();
    sqlx::query_scalar(
        "select pg_catalog.to_regclass($1) is null
             or exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
                        where t.tgrelid::int8 = $2 and p.proname = any ($3))",
    )
    .bind(stored.table.quoted())
    .bind(shape.oid)
    .bind(functions)
    .fetch_one(connection)
    .await
}

impl Deployed<'_> {
    /// By their numbers, which a rename does not change; by name where the numbers are those of another table.
    pub(crate) fn column_drift(&self) -> ColumnDrift {
        let (before, now) = (&self.stored.shape.numbers, self.shape.numbers());
        let by_number: BTreeMap<i16, &String> = now.iter().map(|(name, number)| (*number, name)).collect();
        let present = |name: &String, number: i16| -> Option<String> {
            if self.stored.oid == self.shape.oid {
                by_number.get(&number).map(|name| (*name).clone())
            } else {
                now.contains_key(name).then(|| name.clone())
            }
        };
        let mut drift = ColumnDrift::default();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for (name, number) in before {
            match present(name, *number) {
                None => drift.missing.push(name.clone()),
                Some(other) => {
                    known.insert(other.clone());
                    if other != *name {
                        drift.renamed.push((name.clone(), other));
                    }
                }
            }
        }
        drift.added = now.into_keys().filter(|name| !known.contains(name)).collect();
        drift
    }

    /// With the names that columns have now, and the level where it was chosen. `None` for one that cannot be read.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let policy = self.stored.policy.as_ref()?;
        let drift = self.column_drift();
        let now = |column: &String| -> Option<String> {
            if drift.missing.contains(column) {
                return None;
            }
            let renamed = drift.renamed.iter().find(|(from, _)| from == column);
            Some(renamed.map_or(column, |(_, to)| to).clone())
        };
        let all = |columns: &[String]| -> Vec<String> { columns.iter().filter_map(now).collect() };
        let path = |path: &Vec<String>| {
            now(&path[0]).map(|column| [std::slice::from_ref(&column), &path[1..]].concat())
        };
        // What was made row by row although it need not be stays so.
        let is_chosen = self.stored.level == Level::Row && self.shape.blind_spot().is_none();
        Some(Policy {
            level: is_chosen.then_some(Level::Row),
            exclude: all(&policy.exclude),
            mask: all(&policy.mask),
            hash: all(&policy.hash),
            paths: policy.paths.iter().filter_map(path).collect(),
            except: all(&policy.except),
            // A key that the table has by now needs no override.
            primary_key: if self.shape.has_primary_key() { Vec::new() } else { all(&policy.primary_key) },
            ..policy.clone()
        })
    }

    /// The command that makes the triggers under the stored policy again, at this level or the one that was chosen. Nothing where no
    /// command line can say that policy or name the table: settings have to say it first.
    pub(crate) fn command(&self, level: Option<Level>) -> Option<String> {
        let policy = self.policy()?;
        let options = options(&policy)?;
        command(&self.shape.name, &options, level.or(policy.level))
    }
}

impl ColumnDrift {
    pub(crate) fn is_empty(&self) -> bool {
        self.renamed.is_empty() && self.missing.is_empty() && self.added.is_empty()
    }
}

/// Whether command lines can name the table.
pub(crate) fn is_plain(table: &HostTable) -> bool {
    table.to_string().parse().as_ref() == Ok(table)
}

/// `threadline gen-triggers` of a table, under the policy of the settings and these options. Nothing where no command line can name it.
pub(crate) fn command(table: &HostTable, options: &str, level: Option<Level>) -> Option<String> {
    let level = level.map(|level| format!(" --level {}", level.as_str())).unwrap_or_default();
    is_plain(table).then(|| format!("threadline gen-triggers --tables {table}{options}{level}"))
}

/// The options of a policy, without its level; nothing where there are none for it.
fn options(policy: &Policy) -> Option<String> {
    let by_options = Policy {
        level: policy.level,
        exclude: policy.exclude.clone(),
        mask: policy.mask.clone(),
        except: policy.except.clone(),
        ..Policy::default()
    };
    if *policy != by_options {
        return None;
    }
    let is_word = |name: &String| name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let mut options = String::new();
    for (option, columns) in
        [("exclude", &policy.exclude), ("mask", &policy.mask), ("except-columns", &policy.except)]
    {
        if !columns.iter().all(is_word) {
            return None;
        }
        if !columns.is_empty() {
            let _ = write!(options, " --{option} {}", columns.join(","));
        }
    }
    Some(options)
}
