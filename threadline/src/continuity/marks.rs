//! What triggers did before capture was switched off: in the stored policy while it is off, and in the actions for good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    StorageSchema,
    capture::{
        HostTable,
        trigger::{CaptureTrigger, Firing},
    },
};

/// The action that stands for capture being switched off.
pub(crate) const DISABLED: &str = "threadline.capture.disabled";

/// The action that stands for capture being switched on.
pub(super) const ENABLED: &str = "threadline.capture.enabled";

/// Which stored policy is the table's, by its name when it was made, or under the one that it has now.
pub(super) const OF_TABLE: &str = "((p.table_schema, p.table_name) = ($1, $2) or p.table_oid = \
     (select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
      where n.nspname = $1 and c.relname = $2))";

/// A table and when its triggers fired, as the comment of the action holds it. It is found again by what stands before the triggers.
#[derive(Serialize, Deserialize)]
pub(super) struct Switched {
    pub(super) table: String,
    /// Older versions have not recorded it.
    pub(super) table_oid: Option<i64>,
    pub(super) triggers: Vec<TriggerState>,
}

/// When a trigger fires, or fired before it was disabled.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TriggerState {
    table: String,
    name: String,
    firing: Firing,
    /// The oids of the table and of the trigger: both outlive a change of the name. Older versions have not recorded them.
    relation: Option<i64>,
    oid: Option<i64>,
}

impl TriggerState {
    pub(super) fn with(&self, firing: Firing) -> Self {
        Self { firing, ..self.clone() }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.oid.is_some() && (self.relation, self.oid) == (other.relation, other.oid)
    }

    fn is_namesake(&self, other: &Self) -> bool {
        (&self.table, &self.name) == (&other.table, &other.name)
    }
}

/// The triggers as they are now.
pub(super) async fn present(
    connection: &mut PgConnection,
    triggers: &[CaptureTrigger],
) -> Result<Vec<TriggerState>, sqlx::Error> {
    let relations: Vec<i64> = triggers.iter().map(|trigger| trigger.relation).collect();
    let found: Vec<(i64, String, i64)> = sqlx::query_as(
        "select tgrelid::int8, tgname::text, oid::int8 from pg_catalog.pg_trigger where tgrelid = any ($1::int8[]::oid[])",
    )
    .bind(relations)
    .fetch_all(connection)
    .await?;
    let oids: BTreeMap<(i64, String), i64> =
        found.into_iter().map(|(relation, name, oid)| ((relation, name), oid)).collect();
    let state = |trigger: &CaptureTrigger| TriggerState {
        table: trigger.table.to_string(),
        name: trigger.name.clone(),
        firing: trigger.firing,
        relation: Some(trigger.relation),
        oid: oids.get(&(trigger.relation, trigger.name.clone())).copied(),
    };
    Ok(triggers.iter().map(state).collect())
}

/// What was before, of triggers of one table.
pub(super) struct Marks(Vec<TriggerState>);

impl Marks {
    /// Of the stored policy while capture is off; otherwise of the last of these actions, if it is the one of switching off. A table of
    /// the Elixir library's has no stored policy. Also whether the policy says that capture is off.
    pub(super) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        table: &HostTable,
        oid: i64,
        actions: &[&str],
    ) -> Result<(Self, bool), sqlx::Error> {
        let statement = format!(
            "select off -> 'triggers' from {} p where off is not null and {OF_TABLE}",
            storage.table("threadline_capture_policies")
        );
        let stored: Option<Option<serde_json::Value>> = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(&table.schema)
            .bind(&table.name)
            .fetch_optional(&mut *connection)
            .await?;
        let is_off = stored.is_some();
        let marks = match stored.flatten().and_then(|triggers| serde_json::from_value(triggers).ok()) {
            Some(marks) => marks,
            None => recorded(connection, storage, table, oid, actions).await?,
        };
        Ok((Self(marks), is_off))
    }

    /// When the trigger fired before, whatever its name is now; none for one that was made since.
    pub(super) fn firing(&self, trigger: &TriggerState, present: &[TriggerState]) -> Option<Firing> {
        let same = self.0.iter().find(|mark| mark.is_same(trigger));
        // One that was dropped and made again.
        let namesake = || {
            self.0
                .iter()
                .find(|mark| mark.is_namesake(trigger) && !present.iter().any(|other| mark.is_same(other)))
        };
        same.or_else(namesake).map(|mark| mark.firing)
    }

    /// What `present` did before; what it does now, where nothing is known; and what is known of triggers that are elsewhere.
    pub(super) fn completed(self, present: &[TriggerState]) -> Vec<TriggerState> {
        let before = |one: &TriggerState| one.with(self.firing(one, present).unwrap_or(one.firing));
        let mut all: Vec<TriggerState> = present.iter().map(before).collect();
        let is_elsewhere =
            |mark: &TriggerState| !present.iter().any(|one| mark.is_same(one) || mark.is_namesake(one));
        all.extend(self.0.into_iter().filter(is_elsewhere));
        all
    }
}

/// What the last of these actions says, the one of the table under its earlier name first.
async fn recorded(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
    oid: i64,
    actions: &[&str],
) -> Result<Vec<TriggerState>, sqlx::Error> {
    let beginning = json!({"table": table.to_string()}).to_string();
    let beginning = beginning.trim_end_matches('}');
    let statement = format!(
        "select name, comment from {}
         where name = any ($1) and (pg_catalog.starts_with(comment, $2) or pg_catalog.strpos(comment, $3) > 0)
         order by pg_catalog.strpos(comment, $3) > 0 desc, inserted_at desc limit 1",
        storage.actions()
    );
    let found: Option<(String, String)> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(actions)
        .bind(format!("{beginning},"))
        .bind(format!(r#","table_oid":{oid},"#))
        .fetch_optional(connection)
        .await?;
    let comment = found.filter(|(name, _)| name == DISABLED).map(|(_, comment)| comment);
    let switched = comment.and_then(|comment| serde_json::from_str::<Switched>(&comment).ok());
    Ok(switched.map(|switched| switched.triggers).unwrap_or_default())
}
