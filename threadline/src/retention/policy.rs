//! What is kept for how long, as settings or a program say it, and what of that cannot be.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::{
    capture::{HostTable, Refusal},
    query::filter::Span,
};

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until it is older than this.
    For(Span),
    /// Always.
    Forever,
}

/// How long changes and actions are kept. Without an enabled policy nothing is ever deleted.
///
/// ```
/// use threadline::retention::{Keep, Policy};
///
/// # fn main() -> Result<(), threadline::capture::Refusal> {
/// let policy = Policy::new(Keep::days(90)?)?
///     .table("billing.invoices".parse()?, Keep::Forever)
///     .table("sessions".parse()?, Keep::days(7)?);
/// # let _ = policy;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) is_enabled: bool,
    pub(super) window: Span,
    pub(super) deletes_empty_transactions: bool,
    pub(super) tables: BTreeMap<HostTable, Keep>,
    pub(super) actions: Option<Keep>,
}

const SECONDS_OF_A_DAY: u32 = 86_400;

impl Keep {
    /// So many days, at most those of 136 years.
    ///
    /// # Errors
    /// `window_not_positive`, `window_too_long`.
    pub fn days(days: u32) -> Result<Self, Refusal> {
        let seconds = days.checked_mul(SECONDS_OF_A_DAY).ok_or_else(|| too_long("keep_days"))?;
        Span::from_seconds(seconds).map(Self::For).ok_or_else(|| not_positive("keep_days"))
    }

    /// So many seconds.
    ///
    /// # Errors
    /// `window_not_positive`.
    pub fn seconds(seconds: u32) -> Result<Self, Refusal> {
        Span::from_seconds(seconds).map(Self::For).ok_or_else(|| not_positive("max_age_seconds"))
    }

    /// Of a section of settings; none where it says nothing of it.
    fn read(place: &str, section: &Map<String, Value>) -> Result<Option<Self>, Refusal> {
        let (days, seconds, keep) =
            (section.get("keep_days"), section.get("max_age_seconds"), section.get("keep"));
        match (days, seconds, keep) {
            (None, None, None) => Ok(None),
            (Some(days), None, None) => whole(place, "keep_days", days).and_then(Self::days).map(Some),
            (None, Some(seconds), None) => {
                whole(place, "max_age_seconds", seconds).and_then(Self::seconds).map(Some)
            }
            (None, None, Some(keep)) if keep == "forever" => Ok(Some(Self::Forever)),
            (None, None, Some(_)) => {
                let reason = format!("{place} has a keep that is not \"forever\"");
                Err(Refusal::new("keep_invalid", reason).hint("for a time, use keep_days"))
            }
            _ => {
                let reason = format!("{place} says twice how long to keep");
                Err(Refusal::new("window_twice", reason).hint("leave one of keep_days and max_age_seconds"))
            }
        }
    }

    /// The same, of a section that says nothing else.
    fn alone(place: &str, section: &Value) -> Result<Self, Refusal> {
        let section = section.as_object().ok_or_else(|| {
            Refusal::new("option_invalid", format!("{place} is no table of settings"))
                .hint("{ keep_days = 90 }")
        })?;
        refuse_unknown(place, section, &["keep_days", "max_age_seconds", "keep"])?;
        Self::read(place, section)?.ok_or_else(|| missing(place))
    }
}

impl fmt::Display for Keep {
    /// Such as `90d`, or `forever`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => span.fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl Policy {
    /// Keeps changes so long, and actions always. It is enabled, and captured transactions without changes go too.
    ///
    /// # Errors
    /// `window_missing` where nothing would ever be deleted.
    pub fn new(window: Keep) -> Result<Self, Refusal> {
        let Keep::For(window) = window else { return Err(missing("a policy")) };
        Ok(Self {
            is_enabled: true,
            window,
            deletes_empty_transactions: true,
            tables: BTreeMap::new(),
            actions: None,
        })
    }

    /// Whether anything is deleted.
    #[must_use]
    pub fn enabled(self, is_enabled: bool) -> Self {
        Self { is_enabled, ..self }
    }

    /// Keeps changes of this table so long, whatever is said of others. A partitioned table is named itself, not its partitions.
    #[must_use]
    pub fn table(mut self, table: HostTable, keep: Keep) -> Self {
        self.tables.insert(table, keep);
        self
    }

    /// Keeps actions so long.
    #[must_use]
    pub fn actions(self, keep: Keep) -> Self {
        Self { actions: Some(keep), ..self }
    }

    /// Whether captured transactions without changes go too.
    #[must_use]
    pub fn delete_empty_transactions(self, deletes: bool) -> Self {
        Self { deletes_empty_transactions: deletes, ..self }
    }

    /// Whether anything is deleted under it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// How long changes of each table that is named are kept, by name.
    pub fn tables(&self) -> impl Iterator<Item = (&HostTable, Keep)> {
        self.tables.iter().map(|(table, keep)| (table, *keep))
    }

    /// How long changes of all other tables are kept.
    #[must_use]
    pub fn others(&self) -> Keep {
        Keep::For(self.window)
    }

    /// How long actions are kept.
    #[must_use]
    pub fn kept_actions(&self) -> Keep {
        self.actions.unwrap_or(Keep::Forever)
    }

    /// Of the section `[retention]` of settings, in whatever form it was written.
    ///
    /// # Errors
    /// What cannot be used: `window_missing`, `window_twice`, `window_invalid`, `window_not_positive`, `window_too_long`, `keep_invalid`,
    /// `enabled_invalid`, `option_invalid`, `option_unknown`, `table_name_invalid`, `table_twice`. Its section `archive` is read by
    /// [`Archive::read`](super::Archive::read).
    pub fn read(section: &Map<String, Value>) -> Result<Self, Refusal> {
        let known = [
            "enabled",
            "keep_days",
            "max_age_seconds",
            "keep",
            "delete_empty_transactions",
            "tables",
            "actions",
            // Read by itself.
            "archive",
        ];
        refuse_unknown(SECTION, section, &known)?;
        let is_enabled = match section.get("enabled") {
            None => false,
            Some(value) => boolean(value)
                .ok_or_else(|| Refusal::new("enabled_invalid", "[retention] enabled is true or false"))?,
        };
        let window = Keep::read(SECTION, section)?.ok_or_else(|| missing(SECTION))?;
        let mut policy = Self::new(window)?.enabled(is_enabled);
        if let Some(value) = section.get("delete_empty_transactions") {
            let deletes = value.as_bool().ok_or_else(|| {
                let reason = "[retention] delete_empty_transactions is true or false";
                Refusal::new("option_invalid", reason)
            })?;
            policy = policy.delete_empty_transactions(deletes);
        }
        if let Some(actions) = section.get("actions") {
            policy = policy.actions(Keep::alone("[retention.actions]", actions)?);
        }
        let Some(tables) = section.get("tables") else { return Ok(policy) };
        let tables = tables.as_object().ok_or_else(|| {
            Refusal::new("option_invalid", "[retention.tables] is no table of settings")
                .hint("\"schema.table\" = { keep_days = 90 }")
        })?;
        for (name, section) in tables {
            let table: HostTable = name.parse()?;
            let keep = Keep::alone(&format!("[retention.tables] {table}"), section)?;
            if policy.tables.insert(table.clone(), keep).is_some() {
                let reason = format!("[retention.tables] has {table} twice");
                return Err(Refusal::new("table_twice", reason).hint("leave one of them"));
            }
        }
        Ok(policy)
    }
}

const SECTION: &str = "[retention]";

/// True or false; the Elixir library takes them as texts too.
fn boolean(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// A number of days or seconds.
fn whole(place: &str, option: &str, value: &Value) -> Result<u32, Refusal> {
    let number = value.as_i64().ok_or_else(|| {
        let reason = format!("{option} of {place} is no whole number");
        Refusal::new("window_invalid", reason).hint("keep_days = 90")
    })?;
    if number <= 0 {
        return Err(not_positive(option));
    }
    number.try_into().map_err(|_| too_long(option))
}

pub(super) fn refuse_unknown(
    place: &str,
    section: &Map<String, Value>,
    known: &[&str],
) -> Result<(), Refusal> {
    match section.keys().find(|option| !known.contains(&option.as_str())) {
        None => Ok(()),
        Some(option) => {
            let reason = format!("{place} has an option {option}, which there is not");
            Err(Refusal::new("option_unknown", reason).hint(format!("there are {}", known.join(", "))))
        }
    }
}

fn missing(place: &str) -> Refusal {
    Refusal::new("window_missing", format!("{place} does not say how long to keep"))
        .hint("set keep_days or max_age_seconds")
}

fn not_positive(option: &str) -> Refusal {
    Refusal::new("window_not_positive", format!("{option} is at least 1"))
}

fn too_long(option: &str) -> Refusal {
    Refusal::new("window_too_long", format!("{option} is longer than 136 years"))
        .hint("for a table, keep = \"forever\" keeps it always")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(section: &Value) -> Result<Policy, &'static str> {
        Policy::read(section.as_object().expect("an object")).map_err(|refusal| refusal.term)
    }

    /// What the Elixir library makes of these, from running it, and what is made of them here.
    #[test]
    fn a_policy_is_refused_as_the_elixir_library_refuses_it() {
        let day = || Policy::new(Keep::days(1)?);
        for (section, expected) in [
            (json!({}), Err("window_missing")),
            (json!({"enabled": true}), Err("window_missing")),
            (json!({"enabled": "yes", "keep_days": 1}), Err("enabled_invalid")),
            (json!({"enabled": true, "keep_days": -1}), Err("window_not_positive")),
            (json!({"enabled": true, "keep_days": 0}), Err("window_not_positive")),
            (json!({"enabled": true, "keep_days": 1, "max_age_seconds": 5}), Err("window_twice")),
            // There it counts as no window at all.
            (json!({"enabled": true, "keep_days": 1.5}), Err("window_invalid")),
            // There it is ignored: a setting that was misspelt would delete what somebody meant to keep.
            (json!({"enabled": true, "keep_days": 1, "foo": 1}), Err("option_unknown")),
            (json!({"enabled": true, "max_age_seconds": 86_400}), Ok(day())),
            (json!({"enabled": "true", "keep_days": 1}), Ok(day())),
            (json!({"keep_days": 1}), Ok(day().map(|policy| policy.enabled(false)))),
        ] {
            let expected = expected.map(|policy| policy.expect("a policy"));
            assert_eq!(read(&section), expected, "{section}");
        }
    }

    #[test]
    fn tables_and_actions_have_windows_of_their_own() {
        let section = json!({"enabled": true, "keep_days": 90, "delete_empty_transactions": false,
            "tables": {"posts": {"max_age_seconds": 5}, "billing.invoices": {"keep": "forever"}}, "actions": {"keep_days": 400}});
        let expected = || -> Result<Policy, Refusal> {
            Ok(Policy::new(Keep::days(90)?)?
                .delete_empty_transactions(false)
                .table("public.posts".parse()?, Keep::seconds(5)?)
                .table("billing.invoices".parse()?, Keep::Forever)
                .actions(Keep::days(400)?))
        };
        assert_eq!(read(&section), Ok(expected().expect("a policy")));
    }

    #[test]
    fn what_of_them_cannot_be_used_has_a_term() {
        let with = |name: &str, value: Value| {
            let mut section = json!({"keep_days": 90});
            section[name] = value;
            read(&section).expect_err(name)
        };
        for (tables, term) in [
            (json!({"a.b.c": {"keep_days": 1}}), "table_name_invalid"),
            (json!({"posts": {"keep_days": 1}, "public.posts": {"keep_days": 2}}), "table_twice"),
            (json!({"posts": {}}), "window_missing"),
            (json!({"posts": 7}), "option_invalid"),
            (json!({"posts": {"keep_days": 1, "keep": "forever"}}), "window_twice"),
            (json!({"posts": {"keep": "never"}}), "keep_invalid"),
            (json!({"posts": {"days": 1}}), "option_unknown"),
            (json!({"posts": {"keep_days": 49_711}}), "window_too_long"),
            (json!({"posts": {"max_age_seconds": 1_u64 << 32}}), "window_too_long"),
            (json!([]), "option_invalid"),
        ] {
            assert_eq!(with("tables", tables.clone()), term, "{tables}");
        }
        assert_eq!(with("actions", json!({"keep_days": 0})), "window_not_positive");
        assert_eq!(with("delete_empty_transactions", json!("no")), "option_invalid");
        assert_eq!(with("keep", json!("forever")), "window_twice");
        assert_eq!(read(&json!({"keep": "forever"})), Err("window_missing"));
    }
}
