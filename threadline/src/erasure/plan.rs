//! The steps of a pass.

use std::time::Duration;

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    error::ErasureError,
    named::Named,
    persons::{Search, check_columns},
    policy::{Columns, ErasurePolicy},
    request::Erasure,
    scrub::What,
    step::{KEYS, Of, SIDES, Step, Subject},
};
use crate::{
    ActorRef, Timeline,
    batches::settle,
    capture::Refusal,
    query::{Reader, Scope, Statement, row::Row},
};

/// What a pass visits.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Whether the key of the row was changed more often than was followed.
    pub(super) has_more_keys: bool,
    /// When the pass began, by the database's clock.
    pub(super) begun: String,
}

/// What an erasure is about, as the database knows it: found once, at the beginning of a run.
#[derive(Debug)]
pub(super) enum Target {
    Row(Row),
    Actor(ActorRef),
    Person,
}

impl Target {
    /// Finds it.
    pub(super) async fn find(reader: &Reader, erasure: &Erasure) -> Result<Self, ErasureError> {
        match erasure {
            Erasure::Row { table, key, columns, key_too } => {
                let row = reader.row(table, key).await?;
                let is_key = |column: &&String| row.key.contains_key(*column);
                if let Some(column) = columns.iter().find(is_key).filter(|_| !key_too) {
                    let reason = format!("the column {column} is part of the key of {}", row.table());
                    return Err(Refusal::new("key_column", reason)
                        .hint("say --key-too, or leave the column out")
                        .into());
                }
                check_columns(reader, &row, columns).await?;
                Ok(Self::Row(row))
            }
            Erasure::Actor { actor, .. } => Ok(Self::Actor(actor.clone())),
            Erasure::Person { .. } => Ok(Self::Person),
        }
    }

    /// As it is hashed: the same whatever way it was written.
    pub(super) fn canonical(&self, erasure: &Erasure) -> String {
        let texts = match (self, erasure) {
            (Self::Row(row), _) => {
                serde_json::json!(["row", row.table().to_string(), row.key])
            }
            (Self::Actor(actor), _) => serde_json::json!(["actor", actor.kind().as_str(), actor.id()]),
            (Self::Person, Erasure::Person { id, .. }) => serde_json::json!(["person", id]),
            (Self::Person, _) => serde_json::Value::Null,
        };
        texts.to_string()
    }

    /// The table of a row.
    pub(super) fn table(&self) -> Option<String> {
        match self {
            Self::Row(row) => Some(row.table().to_string()),
            _ => None,
        }
    }
}

async fn now(timeline: &Timeline) -> Result<String, sqlx::Error> {
    let statement = Statement::new("select (clock_timestamp() at time zone 'UTC')::text || '+00'");
    let mut transaction = timeline.pool().begin().await?;
    settle(&mut transaction, Duration::from_secs(1)).await?;
    let now = statement.query().fetch_one(&mut *transaction).await?.try_get(0)?;
    transaction.rollback().await?;
    Ok(now)
}

/// Everything of a timeline, whoever it belongs to.
pub(super) fn reader(timeline: &Timeline) -> Reader {
    timeline.reader(Scope::everything())
}

impl Plan {
    /// What the next pass visits. What somebody commits later is for the pass behind it.
    pub(super) async fn of(
        timeline: &Timeline,
        erasure: &Erasure,
        target: &Target,
        run: Uuid,
        time: Duration,
    ) -> Result<Self, ErasureError> {
        let reader = reader(timeline);
        let mut plan = Self { begun: now(timeline).await?, ..Self::default() };
        match (erasure, target) {
            (Erasure::Row { columns, key_too, .. }, Target::Row(row)) => {
                let changes = reader.changes_of_row(row, time).await?;
                plan.has_more_keys = changes.has_more_keys;
                let columns = Some(columns.clone()).filter(|columns| !columns.is_empty());
                let what = What::Columns { columns, key_too: *key_too };
                let links = changes.links.clone();
                for changes in changes.parts() {
                    let keys = changes.keys();
                    let of = Of::Row { changes, keeps_links: *key_too };
                    plan.steps.push(Step { of, what: what.clone() });
                    if *key_too {
                        plan.add_named(&Named::Row(row.table(), keys));
                    }
                }
                // These lead to the other keys.
                if *key_too && !links.is_empty() {
                    plan.steps.push(Step { of: Of::Links(links), what });
                }
            }
            (Erasure::Actor { actor, texts }, _) => plan.add_actor(actor, *texts),
            (Erasure::Person { id, policy }, _) => plan.add_person(timeline, id, policy, (run, time)).await?,
            (Erasure::Row { .. }, _) => {}
        }
        Ok(plan)
    }

    fn add_actor(&mut self, actor: &ActorRef, texts: bool) {
        let what = What::Actor { texts };
        let mut add = |of| self.steps.push(Step { of, what: what.clone() });
        add(Of::Transactions(actor.clone()));
        add(Of::Actions(actor.clone()));
        self.add_named(&Named::Actor(actor.clone()));
    }

    /// What names it without being about it.
    fn add_named(&mut self, named: &Named) {
        self.steps.push(Step { of: Of::Exports(named.clone()), what: What::Comment });
        for side in &SIDES {
            if named.actor().is_some() || !side.documents.is_empty() {
                let of = Of::Side { side, named: named.clone() };
                self.steps.push(Step { of, what: What::Comment });
            }
        }
    }

    async fn add_person(
        &mut self,
        timeline: &Timeline,
        id: &str,
        policy: &ErasurePolicy,
        (run, time): (Uuid, Duration),
    ) -> Result<(), ErasureError> {
        for (table, Columns { subject, columns }) in &policy.tables {
            let subject = Subject { column: subject.clone(), value: id.to_owned() };
            let changes = reader(timeline).changes_of_table(table).await?;
            let search = Search { timeline, table, subject: &subject, columns, run, time };
            let keys = search.keys(&changes).await?;
            let what = What::Columns { columns: Some(columns.clone()), key_too: false };
            for keys in keys.into_iter().collect::<Vec<_>>().chunks(KEYS) {
                let (changes, keys) = (changes.clone(), keys.to_vec());
                self.steps.push(Step { of: Of::Keys { changes, keys }, what: what.clone() });
            }
            self.steps.push(Step { of: Of::Keyless { changes, subject }, what });
        }
        if let Some(kind) = policy.actor {
            // An id that is not empty, and a kind that has one.
            if let Ok(actor) = ActorRef::new(kind, Some(id)) {
                self.add_actor(&actor, false);
            }
        }
        Ok(())
    }
}
