//! What the settings expect of the host's tables: the sections `[coverage]` and `[capture]`, in whatever form they were written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Expectations;
use crate::capture::{HostTable, Policy, Refusal};

/// The section `[capture]` of the settings file: tables with their policies.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureSection {
    tables: BTreeMap<String, Map<String, Value>>,
}

impl CaptureSection {
    /// By table, however its name is written.
    ///
    /// # Errors
    /// A name that is none, or that is there twice.
    pub fn by_table(&self) -> Result<BTreeMap<HostTable, Map<String, Value>>, Refusal> {
        let mut sections = BTreeMap::new();
        for (name, options) in &self.tables {
            let table: HostTable = name.parse()?;
            if sections.insert(table.clone(), options.clone()).is_some() {
                let reason = format!("[capture] has {table} twice");
                return Err(Refusal { term: "table_twice", reason, hint: None });
            }
        }
        Ok(sections)
    }
}

/// The section `[coverage]` of the settings file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoverageSection {
    /// Tables that are to be captured, none where it is empty; without it those of `[capture]`.
    expected: Option<Vec<String>>,
    /// Tables that are not.
    expected_uncovered: Vec<String>,
    /// Tables that are, although they look like those of a tool for migrations.
    audit_anyway: Vec<String>,
}

/// Both sections as the library takes them.
///
/// # Errors
/// What of them cannot be used.
pub fn expectations(coverage: &CoverageSection, capture: &CaptureSection) -> Result<Expectations, Refusal> {
    let sections = capture.by_table()?;
    let policies = sections
        .iter()
        .map(|(table, options)| Ok((table.clone(), Policy::read(table, options)?)))
        .collect::<Result<_, Refusal>>()?;
    let expected = match &coverage.expected {
        Some(names) => tables("expected", names)?,
        None => sections.into_keys().collect(),
    };
    let expected_uncovered = tables("expected_uncovered", &coverage.expected_uncovered)?;
    let audit_anyway = tables("audit_anyway", &coverage.audit_anyway)?;
    let lists = [("expected", &expected), ("audit_anyway", &audit_anyway)];
    for (list, names) in lists {
        if let Some(name) = names.iter().find(|name| expected_uncovered.contains(name)) {
            let reason = format!("[coverage] has {name} in {list} and in expected_uncovered");
            return Err(refusal("expectations_contradict", reason, "leave it in one of them"));
        }
    }
    let expects_none = coverage.expected.as_ref().is_some_and(Vec::is_empty);
    Ok(Expectations {
        expected,
        expects_none,
        expected_uncovered,
        audit_anyway,
        policies,
        retained: Vec::new(),
    })
}

/// Tables that the section `[retention]` has windows of. What else stands in it, a purge reads.
///
/// # Errors
/// A name that is none.
pub fn retained(section: Option<&Map<String, Value>>) -> Result<Vec<HostTable>, Refusal> {
    let tables = section.and_then(|section| section.get("tables")?.as_object());
    tables.into_iter().flat_map(Map::keys).map(|name| name.parse()).collect()
}

/// Names of tables, each once, however it is written.
fn tables(list: &str, names: &[String]) -> Result<Vec<HostTable>, Refusal> {
    let mut tables: Vec<HostTable> = Vec::new();
    for name in names {
        let table: HostTable = name.parse()?;
        if tables.contains(&table) {
            let reason = format!("[coverage] has {table} twice in {list}");
            return Err(refusal("table_twice", reason, "name it once"));
        }
        tables.push(table);
    }
    Ok(tables)
}

fn refusal(term: &'static str, reason: String, hint: &str) -> Refusal {
    Refusal { term, reason, hint: Some(hint.to_owned()) }
}
