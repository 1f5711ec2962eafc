//! Everything that coverage is judged by, read at once.

use std::collections::{BTreeMap, HashMap};

use sqlx::{FromRow, PgConnection};

use super::{
    Expectations,
    observed::{self, ObservedTable},
};
use crate::{
    StorageSchema,
    capture::{HostTable, Policy, Table, stored::StoredPolicy},
};

pub(super) struct Observation {
    pub(super) storage: StorageSchema,
    pub(super) tables: Vec<ObservedTable>,
    /// Of tables that have triggers, a stored policy, or a policy in the settings.
    shapes: BTreeMap<HostTable, Table>,
    policies: Vec<StoredPolicy>,
    /// Policies of the tables of the same place.
    by_table: HashMap<usize, usize>,
    /// Functions of single tables in the storage schema, by name.
    pub(super) functions: HashMap<String, DeployedFunction>,
    settings: BTreeMap<HostTable, Policy>,
}

#[derive(FromRow)]
pub(super) struct DeployedFunction {
    name: String,
    /// SHA-256 of its body, in hexadecimal digits.
    pub(super) digest: String,
    /// It acts as its owner.
    pub(super) is_definer: bool,
}

/// A table, and what is known of its capture.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) table: &'a ObservedTable,
    pub(super) shape: Option<&'a Table>,
    pub(super) policy: Option<&'a StoredPolicy>,
    pub(super) settings: Option<&'a Policy>,
}

impl Observation {
    pub(super) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        expectations: &Expectations,
    ) -> Result<Self, sqlx::Error> {
        let tables = observed::tables(connection, storage).await?;
        let policies = StoredPolicy::read(connection, storage).await?;
        let by_table = matched(&tables, &policies);
        let settings = expectations.policies.clone();
        let of_interest = |(n, table): &(usize, &ObservedTable)| {
            table.has_capture() || by_table.contains_key(n) || settings.contains_key(&table.name)
        };
        let names: Vec<HostTable> =
            tables.iter().enumerate().filter(of_interest).map(|(_, table)| table.name.clone()).collect();
        let shapes = Table::read_all(connection, &names).await?;
        let functions = functions(connection, storage).await?;
        Ok(Self { storage: storage.clone(), tables, shapes, policies, by_table, functions, settings })
    }

    /// All tables of the host's.
    pub(super) fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        self.tables.iter().enumerate().map(|(n, table)| Subject {
            table,
            shape: self.shapes.get(&table.name),
            policy: self.by_table.get(&n).map(|policy| &self.policies[*policy]),
            settings: self.settings.get(&table.name),
        })
    }

    /// Whether settings say what is captured.
    pub(super) fn has_settings(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Tables that the settings name and that are not there.
    pub(super) fn missing_tables(&self) -> impl Iterator<Item = (&HostTable, &Policy)> {
        self.settings.iter().filter(|(name, _)| !self.tables.iter().any(|table| table.name == **name))
    }

    /// Stored policies of which there is no table, or a partition.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &StoredPolicy> {
        let is_matched = |n: &usize| self.by_table.values().any(|policy| policy == n);
        self.policies.iter().enumerate().filter(move |(n, _)| !is_matched(n)).map(|(_, policy)| policy)
    }
}

/// A policy is that of the table of its name; where there is none, that of the table that it was made for, which was renamed. Numbers
/// of tables say nothing after a restore into another cluster.
fn matched(tables: &[ObservedTable], policies: &[StoredPolicy]) -> HashMap<usize, usize> {
    let by_name: HashMap<&HostTable, usize> =
        tables.iter().enumerate().map(|(n, table)| (&table.name, n)).collect();
    let by_oid: HashMap<i64, usize> =
        tables.iter().enumerate().map(|(n, table)| (table.root().oid, n)).collect();
    let mut matched: HashMap<usize, usize> = HashMap::new();
    for (n, policy) in policies.iter().enumerate() {
        if let Some(table) = by_name.get(&policy.table) {
            matched.insert(*table, n);
        }
    }
    for (n, policy) in policies.iter().enumerate() {
        if !by_name.contains_key(&policy.table)
            && let Some(table) = by_oid.get(&policy.oid)
        {
            matched.entry(*table).or_insert(n);
        }
    }
    matched
}

async fn functions(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<HashMap<String, DeployedFunction>, sqlx::Error> {
    let functions: Vec<DeployedFunction> = sqlx::query_as(
        "select p.proname::text as name, encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') as digest, p.prosecdef as is_definer
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = $1 and p.pronargs = 0 and p.proname ~ '^threadline_capture_(changes|updates|deletes)_'",
    )
    .bind(storage.as_str())
    .fetch_all(connection)
    .await?;
    Ok(functions.into_iter().map(|function| (function.name.clone(), function)).collect())
}
