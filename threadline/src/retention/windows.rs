//! From which time on rows are kept, table by table: a policy at one moment.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::policy::{Keep, Policy};
use crate::{
    capture::{HostTable, Refusal},
    query::{Statement, filter::Span, time_text},
};

/// What is strictly older than its cutoff goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Of changes of all tables that are not named.
    pub default: OffsetDateTime,
    /// Of changes of these tables; `None` is kept always.
    pub tables: BTreeMap<HostTable, Option<OffsetDateTime>>,
    /// Of actions; `None` is kept always.
    pub actions: Option<OffsetDateTime>,
}

impl Windows {
    /// Those of a policy at `now`, and nothing that is not older than `cutoff` as well.
    ///
    /// # Errors
    /// `cutoff` where that is later than the policy's own.
    pub(super) fn new(
        policy: &Policy,
        now: OffsetDateTime,
        cutoff: Option<OffsetDateTime>,
    ) -> Result<Self, Refusal> {
        let before = |span: Span| now.saturating_sub(Duration::seconds(span.seconds().into()));
        let own = |keep: Keep| match keep {
            Keep::For(span) => Some(before(span)),
            Keep::Forever => None,
        };
        let default = before(policy.window);
        if let Some(cutoff) = cutoff
            && cutoff > default
        {
            let reason = format!("{} is later than the policy's own cutoff", time_text(cutoff));
            return Err(Refusal::new("cutoff", reason)
                .hint(format!("give one up to {}, or change the policy", time_text(default))));
        }
        let both = |own: OffsetDateTime| cutoff.map_or(own, |cutoff| own.min(cutoff));
        Ok(Self {
            default: both(default),
            tables: policy.tables.iter().map(|(table, keep)| (table.clone(), own(*keep).map(both))).collect(),
            actions: policy.actions.and_then(own).map(both),
        })
    }

    /// Of changes of this table.
    #[must_use]
    pub fn of(&self, table: &HostTable) -> Option<OffsetDateTime> {
        self.tables.get(table).copied().unwrap_or(Some(self.default))
    }

    /// As a run records them, in UTC.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let tables: BTreeMap<String, Option<String>> =
            self.tables.iter().map(|(table, cutoff)| (table.to_string(), cutoff.map(time_text))).collect();
        json!({"default": time_text(self.default), "tables": tables, "actions": self.actions.map(time_text)})
    }

    /// Pushes three arrays: schemas and names of tables that have a window of their own, and its cutoff.
    pub(super) fn push_tables(&self, statement: &mut Statement) {
        let column = |of: fn(&HostTable) -> &String| self.tables.keys().map(of).cloned().collect::<Vec<_>>();
        // An array of times has no other form for what is kept always.
        let cutoff =
            |cutoff: &Option<OffsetDateTime>| cutoff.map_or_else(|| "-infinity".to_owned(), time_text);
        statement
            .bind(column(|table| &table.schema))
            .push("::text[], ")
            .bind(column(|table| &table.name))
            .push("::text[], ")
            .bind(self.tables.values().map(cutoff).collect::<Vec<_>>())
            .push("::timestamptz[]");
    }

    /// Pushes the windows of tables as rows `w`, of which a change has one or none.
    pub(super) fn push_join(&self, change: &str, statement: &mut Statement) {
        statement.push(" left join unnest(");
        self.push_tables(statement);
        statement.push(&format!(
            ") w (schema, name, cutoff) on w.schema = {change}.table_schema and w.name = {change}.table_name"
        ));
    }

    /// Pushes that a change beside its window `w` is to go.
    pub(super) fn push_due(&self, change: &str, statement: &mut Statement) {
        statement.push(&format!("{change}.captured_at < coalesce(w.cutoff, ")).bind(self.default).push(")");
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_cutoff_only_shortens_what_is_deleted() -> Result<(), Refusal> {
        let now = datetime!(2026-05-31 12:00 UTC);
        let (sessions, invoices): (HostTable, HostTable) = ("sessions".parse()?, "billing.invoices".parse()?);
        let policy = Policy::new(Keep::days(30)?)?
            .table(sessions.clone(), Keep::days(1)?)
            .table(invoices.clone(), Keep::Forever)
            .actions(Keep::days(60)?);
        let windows = Windows::new(&policy, now, None)?;
        assert_eq!(windows.of(&sessions), Some(datetime!(2026-05-30 12:00 UTC)));
        assert_eq!(windows.of(&invoices), None);
        assert_eq!(windows.of(&"posts".parse()?), Some(datetime!(2026-05-01 12:00 UTC)));
        let windows = Windows::new(&policy, now, Some(datetime!(2026-04-15 00:00 UTC)))?;
        let expected = json!({"default": "2026-04-15T00:00:00.000000Z", "actions": "2026-04-01T12:00:00.000000Z",
            "tables": {"public.sessions": "2026-04-15T00:00:00.000000Z", "billing.invoices": null}});
        assert_eq!(windows.to_json(), expected);
        assert!(Windows::new(&policy, now, Some(datetime!(2026-05-01 12:00 UTC))).is_ok());
        let late = Windows::new(&policy, now, Some(datetime!(2026-05-01 12:00:00.000001 UTC)));
        assert_eq!(late.map_err(|refusal| refusal.term), Err("cutoff"));
        Ok(())
    }
}
