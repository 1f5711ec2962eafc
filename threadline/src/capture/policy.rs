//! What is captured of one table, as settings say it, and what of that cannot be.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    names::{BYTES_MAX, HostTable},
    refusal::Refusal,
};

const PLACEHOLDER: &str = "[REDACTED]";
const PLACEHOLDER_MAX: usize = 200;

/// Where triggers fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Once for each row.
    Row,
    /// Once for each statement, with all of its rows.
    Statement,
}

impl Level {
    /// As in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Statement => "statement",
        }
    }
}

/// Capture of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Policy {
    /// Where triggers fire; without it, statement level where it sees all changes.
    pub level: Option<Level>,
    /// Columns that are not stored, and do not count as changed.
    pub exclude: Vec<String>,
    /// Columns of which a placeholder is stored.
    pub mask: Vec<String>,
    /// What stands in place of a masked value.
    pub mask_placeholder: String,
    /// Columns of which a keyed hash is stored.
    pub hash: Vec<String>,
    /// The id of its key.
    pub hash_key: String,
    /// Places in documents that are masked: the column, and keys below it.
    pub paths: Vec<Vec<String>>,
    /// Columns that are stored, and do not count as changed.
    pub except: Vec<String>,
    /// The key of a table without a primary key.
    pub primary_key: Vec<String>,
    /// Whether the values before an update are stored.
    pub store_changed_from: bool,
    /// Whether a change without an actor is refused.
    pub strict: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            level: None,
            exclude: Vec::new(),
            mask: Vec::new(),
            mask_placeholder: PLACEHOLDER.to_owned(),
            hash: Vec::new(),
            hash_key: "default".to_owned(),
            paths: Vec::new(),
            except: Vec::new(),
            primary_key: Vec::new(),
            store_changed_from: true,
            strict: false,
        }
    }
}

impl Policy {
    /// Of a section of settings, in whatever form it was written.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn read(table: &HostTable, section: &Map<String, Value>) -> Result<Self, Refusal> {
        let mut policy = Self::default();
        for (option, value) in section {
            match option.as_str() {
                "level" => policy.level = Some(level(table, value)?),
                "exclude" => policy.exclude = columns(table, option, value)?,
                "mask" => policy.mask = columns(table, option, value)?,
                "mask_placeholder" => policy.mask_placeholder = text(table, option, value)?,
                "hash" => policy.hash = columns(table, option, value)?,
                "hash_key" => policy.hash_key = text(table, option, value)?,
                "paths" => policy.paths = paths(table, value)?,
                "except" | "except_columns" => policy.except = columns(table, option, value)?,
                "primary_key" => policy.primary_key = primary_key(table, value)?,
                "store_changed_from" => policy.store_changed_from = boolean(table, option, value)?,
                "strict" => policy.strict = boolean(table, option, value)?,
                _ => return Err(unknown_option(table, option)),
            }
        }
        policy.check(table)?;
        Ok(policy)
    }

    /// Whether what it says contradicts itself.
    ///
    /// # Errors
    /// How.
    pub fn check(&self, table: &HostTable) -> Result<(), Refusal> {
        let groups = [("exclude", &self.exclude), ("mask", &self.mask), ("hash", &self.hash)];
        for (n, (option, columns)) in groups.iter().enumerate() {
            for (other, others) in &groups[n + 1..] {
                let both: Vec<&str> =
                    columns.iter().filter(|one| others.contains(one)).map(String::as_str).collect();
                if !both.is_empty() {
                    let reason = format!("{option} and {other} both name {}", both.join(", "));
                    return Err(
                        refused(table, "redaction_overlap", &reason).hint("leave each in one of them")
                    );
                }
            }
        }
        if let Some(path) =
            self.paths.iter().find(|path| groups.iter().any(|(_, all)| all.contains(&path[0])))
        {
            let reason = format!("the column of the path {} is redacted as a whole", path.join("."));
            return Err(refused(table, "redaction_overlap", &reason).hint("remove one of the two"));
        }
        let placeholder = &self.mask_placeholder;
        if placeholder.is_empty() {
            return Err(refused(table, "placeholder_empty", "mask_placeholder is empty"));
        }
        if placeholder.chars().count() > PLACEHOLDER_MAX {
            let reason = format!("mask_placeholder has more than {PLACEHOLDER_MAX} characters");
            return Err(refused(table, "placeholder_too_long", &reason));
        }
        if placeholder.chars().any(|c| c.is_ascii_control()) {
            return Err(refused(
                table,
                "placeholder_control_character",
                "mask_placeholder has a control character",
            ));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if self.hash_key.is_empty() || self.hash_key.len() > BYTES_MAX || !self.hash_key.chars().all(is_plain)
        {
            return Err(refused(table, "hash_key_invalid", "hash_key is 1 to 63 letters, digits, _ and -"));
        }
        for column in &self.primary_key {
            let uses = [
                ("exclude", &self.exclude),
                ("mask", &self.mask),
                ("hash", &self.hash),
                ("except", &self.except),
            ];
            if let Some((option, _)) = uses.iter().find(|(_, columns)| columns.contains(column)) {
                return Err(key_redacted(table, column, option));
            }
        }
        Ok(())
    }

    /// Columns with something to hide, each once.
    pub(crate) fn redacted(&self) -> Vec<String> {
        let below = self.paths.iter().map(|path| &path[0]);
        let mut all: Vec<String> =
            self.exclude.iter().chain(&self.mask).chain(&self.hash).chain(below).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

pub(super) fn key_redacted(table: &HostTable, column: &str, option: &str) -> Refusal {
    let reason = format!("the key column {column} is in {option}");
    refused(table, "key_redacted", &reason)
        .hint(format!("remove {column} from {option}: without it, it is unknown which row a change is of"))
}

pub(super) fn refused(table: &HostTable, term: &'static str, reason: &str) -> Refusal {
    Refusal::new(term, format!("{table}: {reason}"))
}

fn unknown_option(table: &HostTable, option: &str) -> Refusal {
    let refusal = refused(table, "option_unknown", &format!("there is no option {option}"));
    if matches!(option, "primary_keys" | "pk" | "pkey" | "primary") {
        return refusal.hint("it is called primary_key");
    }
    refusal.hint(
        "there are level, exclude, mask, mask_placeholder, hash, hash_key, paths, except, primary_key, store_changed_from and strict",
    )
}

fn level(table: &HostTable, value: &Value) -> Result<Level, Refusal> {
    match value.as_str() {
        Some("row") => Ok(Level::Row),
        Some("statement") => Ok(Level::Statement),
        _ => Err(refused(table, "option_invalid", "level is \"row\" or \"statement\"")),
    }
}

fn text(table: &HostTable, option: &str, value: &Value) -> Result<String, Refusal> {
    let not = || refused(table, "option_invalid", &format!("{option} is a text"));
    value.as_str().map(str::to_owned).ok_or_else(not)
}

fn boolean(table: &HostTable, option: &str, value: &Value) -> Result<bool, Refusal> {
    let not = || refused(table, "option_invalid", &format!("{option} is true or false"));
    value.as_bool().ok_or_else(not)
}

/// Anything but a list is refused: what looks like one and is ignored would be a leak.
fn list<'a>(table: &HostTable, option: &str, value: &'a Value) -> Result<Vec<&'a str>, Refusal> {
    let not_a_list = || {
        refused(table, "not_a_list", &format!("{option} is not a list"))
            .hint(format!("{option} = [\"column\"]"))
    };
    let not_text = || refused(table, "not_text", &format!("{option} holds something that is not a text"));
    value.as_array().ok_or_else(not_a_list)?.iter().map(|one| one.as_str().ok_or_else(not_text)).collect()
}

/// Trimmed, without blanks, each once.
fn columns(table: &HostTable, option: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    let mut columns: Vec<String> = Vec::new();
    for name in list(table, option, value)? {
        let name = name.trim();
        if !name.is_empty() && !columns.iter().any(|one| one == name) {
            columns.push(name.to_owned());
        }
    }
    Ok(columns)
}

fn paths(table: &HostTable, value: &Value) -> Result<Vec<Vec<String>>, Refusal> {
    let path = |text: &str| {
        let path: Vec<String> = text.trim().split('.').map(str::to_owned).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            let reason = format!("{text:?} is no path below a column");
            return Err(refused(table, "path_invalid", &reason)
                .hint("write column.key or column.key.key; mask hides a whole column"));
        }
        Ok(path)
    };
    list(table, "paths", value)?.into_iter().map(path).collect()
}

fn primary_key(table: &HostTable, value: &Value) -> Result<Vec<String>, Refusal> {
    let names = list(table, "primary_key", value)?;
    if names.is_empty() {
        return Err(refused(table, "primary_key_empty", "primary_key is an empty list"));
    }
    for (n, name) in names.iter().enumerate() {
        if name.trim() != *name || name.is_empty() || name.len() > BYTES_MAX {
            let reason = format!("primary_key holds {name:?}: blank, too long, or with spaces around it");
            return Err(refused(table, "primary_key_name_invalid", &reason));
        }
        if names[..n].contains(name) {
            return Err(refused(table, "primary_key_duplicate", &format!("primary_key names {name} twice")));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}
