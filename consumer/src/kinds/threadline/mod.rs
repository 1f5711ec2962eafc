//! Projects events into Threadline's `audit_actions`.

mod mapping;
mod preflight;
mod write;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    database::Database,
    doctor::{Check, Problem},
    event::{AuditEvent, NEEDED_BY_THREADLINE},
    identifier::ForwarderId,
    settings::{ConnectionUrl, ForwarderSettings, Settings},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use threadline::{ActionTable, Adoption, AuditAction, StorageSchema, action, verified};
use uuid::Uuid;

use self::{
    mapping::{Mapping, Profile},
    write::{Way, unavailable, verdict_of, write},
};

use crate::forwarder::{
    self, ConfigureError, ForwardError, Forwarder, ForwarderFactory, ForwarderKind, Preflight, Verdict,
};

/// After a batch some of which was there already, so many are written with `on conflict do nothing`.
const CONFLICT_BATCHES: u32 = 100;

/// How long a worker relies on what it has seen of the timeline's tables. A trigger that is new acts unseen for so long.
const CHECK_KEPT: Duration = Duration::from_secs(5);

/// The kind `threadline`.
#[derive(Debug, Clone, Copy)]
pub struct Threadline;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Another database than `threadline.url`.
    url: Option<ConnectionUrl>,
    /// Another schema than `threadline.schema`.
    schema: Option<String>,
    /// The type of actors whose row does not say one that takes an id.
    actor_type: Option<String>,
    /// `correct` or `compat`.
    #[serde(default)]
    profile: Profile,
}

/// A target whose options have been checked.
#[derive(Debug, Clone)]
pub struct TimelineForwarder {
    forwarder: ForwarderId,
    database: Database,
    schema: StorageSchema,
    table: ActionTable,
    mapping: Mapping,
    /// Whether what is there is overwritten.
    overwrite: bool,
    /// Most bytes of a batch of events.
    batch_bytes: usize,
    /// What there is to say of the way there.
    unencrypted: Option<Problem>,
}

impl TimelineForwarder {
    /// As settings name it.
    pub(crate) const KIND: &str = "threadline";

    /// Checks the options of a forwarder.
    ///
    /// # Errors
    /// Naming the option and what is expected.
    pub fn of(forwarder: &ForwarderSettings, settings: &Settings) -> Result<Self, ConfigureError> {
        let refuse = |message: String| ConfigureError::new(forwarder, message);
        if forwarder.kind != Self::KIND {
            return Err(refuse(format!(
                "it is of kind {}: there is no timeline to look into",
                forwarder.kind
            )));
        }
        let options: Options = forwarder::options(forwarder)?;
        let url = options.url.or_else(|| settings.threadline.url.clone()).ok_or_else(|| {
            refuse(
                "no timeline database: set threadline.url, THREADLINE_DATABASE_URL, or url here".to_owned(),
            )
        })?;
        let schema = options.schema.as_deref().unwrap_or(&settings.threadline.schema);
        let schema: StorageSchema = schema.parse().map_err(|error| refuse(format!("schema: {error}")))?;
        let actor_type = options.actor_type.as_deref().unwrap_or("user");
        let mapping = Mapping::new(options.profile, actor_type).map_err(refuse)?;
        // The server gives up first: its time-out says that it is slow, the worker's would blame the events.
        let limit = settings.consumer.forward_timeout.mul_f64(0.8);
        let database = Database::new(&url, "audit-consumer-timeline", limit, false)
            .map_err(|error| refuse(format!("url: {}", errors::database(&error))))?;
        let table = schema.actions();
        let unencrypted = common::doctor::settings::unencrypted("its URL", &url);
        let (forwarder, batch_bytes) = (forwarder.id.clone(), settings.consumer.batch_bytes);
        Ok(Self { forwarder, database, schema, table, mapping, overwrite: false, batch_bytes, unencrypted })
    }

    /// The same, writing over what is there: a mapping that has changed reaches rows that have arrived.
    #[must_use]
    pub fn overwriting(self) -> Self {
        Self { overwrite: true, ..self }
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Its schema.
    #[must_use]
    pub fn schema(&self) -> &StorageSchema {
        &self.schema
    }

    /// Most bytes of a batch of events.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// The table of actions.
    #[must_use]
    pub fn table(&self) -> &ActionTable {
        &self.table
    }

    /// What an event becomes, or why it can become nothing.
    ///
    /// # Errors
    /// The verdict that its delivery would end with.
    pub fn action(&self, event: &AuditEvent) -> Result<AuditAction, Verdict> {
        self.mapping.action(event)
    }

    /// Whether an action's time is the event's, and not that of its delivery.
    #[must_use]
    pub fn keeps_time(&self) -> bool {
        self.mapping.keeps_time()
    }
}

impl ForwarderKind for Threadline {
    fn configure(
        &self,
        forwarder: &ForwarderSettings,
        settings: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        Ok(Arc::new(TimelineForwarder::of(forwarder, settings)?))
    }
}

impl ForwarderFactory for TimelineForwarder {
    fn build(&self) -> Box<dyn Forwarder> {
        let timeline = Self { database: self.database.with_dead_peer_detection(), ..self.clone() };
        Box::new(Worker { timeline, connection: None, conflicts_expected: 0, checked: None })
    }

    fn columns(&self) -> &[&str] {
        &mapping::COLUMNS
    }

    fn required_columns(&self) -> &[&str] {
        &NEEDED_BY_THREADLINE
    }

    fn metadata_keys(&self) -> Option<&[&str]> {
        Some(&mapping::METADATA_KEYS)
    }

    fn target(&self) -> BoxFuture<'_, Result<Option<String>, ForwardError>> {
        async {
            let mut connection =
                self.database.connect_directly().await.map_err(|error| unavailable(&error))?;
            preflight::target(&mut connection, &self.schema)
                .await
                .map_err(|error| unavailable(&error))
                .map(Some)
        }
        .boxed()
    }

    fn preflight(&self) -> BoxFuture<'_, Preflight> {
        preflight::preflight(self).boxed()
    }

    fn preflight_thorough(&self) -> BoxFuture<'_, Option<(&'static Check, Option<Problem>)>> {
        preflight::preflight_thorough(self).boxed()
    }
}

/// One worker's forwarder: holds a connection for its life.
struct Worker {
    timeline: TimelineForwarder,
    connection: Option<PgConnection>,
    /// For so many batches to come some actions may be there already.
    conflicts_expected: u32,
    checked: Option<(Target, Instant)>,
}

/// What a worker has seen of the timeline's tables, at some time.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// Which of other writers' actions count as events.
    adoption: Adoption,
    /// Whether something of the host's acts on what is written.
    verified: bool,
}

impl Forwarder for Worker {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        async {
            // One limit for all of it: a connection that a network has forgotten says nothing about the events.
            let database = self.timeline.database.clone();
            let projected = database.with_timeout(async { Ok(self.project(events).await) }).await;
            projected.unwrap_or_else(|error| Err(unavailable(&error)))
        }
        .boxed()
    }

    fn find_delivered<'a>(
        &'a mut self,
        events: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Uuid>, ForwardError>> {
        async {
            let database = self.timeline.database.clone();
            let present = async {
                let mut connection = match self.connection.take() {
                    Some(connection) => connection,
                    None => self.timeline.database.connect_with_path_of_role().await?,
                };
                let present = action::present(&mut connection, &self.timeline.table, events).await?;
                self.connection = Some(connection);
                Ok(present)
            };
            database.with_timeout(present).await.map_err(|error| unavailable(&error))
        }
        .boxed()
    }

    fn is_serving(&mut self) -> BoxFuture<'_, bool> {
        preflight::is_serving(&self.timeline).boxed()
    }
}

impl Worker {
    async fn project(&mut self, events: &[AuditEvent]) -> Result<Vec<Verdict>, ForwardError> {
        let mut actions = Vec::with_capacity(events.len());
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events {
            verdicts.push(match self.timeline.mapping.action(event) {
                Ok(action) => {
                    actions.push(action);
                    Verdict::Delivered
                }
                Err(verdict) => verdict,
            });
        }
        // Out of its place while in use: a future that is dropped in the middle takes the connection along, which
        // would otherwise answer the next statement with the rest of this one.
        let database = &self.timeline.database;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => database.connect_with_path_of_role().await.map_err(|error| unavailable(&error))?,
        };
        let target = self.check(&mut connection).await.map_err(|error| unavailable(&error))?;
        let adopted = self.adopted_ids(&mut connection, target.adoption, events).await;
        let adopted = adopted.map_err(|error| unavailable(&error))?;
        actions.retain(|action| !adopted.contains(&action.id));
        let way = match self.conflicts_expected {
            _ if target.verified => Way::Verified,
            0 => Way::New,
            _ => Way::MayConflict,
        };
        let inserted = write(&mut connection, &self.timeline, &actions, way).await?;
        // A server logs each refusal, and one redelivery seldom comes alone.
        let met = inserted.present.len() + inserted.conflicting.len() + inserted.refused.len() > 0;
        self.conflicts_expected =
            if met { CONFLICT_BATCHES } else { self.conflicts_expected.saturating_sub(1) };
        if inserted.swallowed.is_empty() {
            self.connection = Some(connection);
        } else {
            // A statement that a rule made nothing of is prepared as nothing, and stays so when the rule has gone. And what is
            // there now is read again.
            self.checked = None;
            let _ = connection.close().await;
        }
        for (event, verdict) in events.iter().zip(&mut verdicts) {
            if *verdict == Verdict::Delivered {
                *verdict = if adopted.contains(&event.id) {
                    Verdict::AlreadyDelivered
                } else {
                    verdict_of(event.id, &inserted)
                };
            }
        }
        Ok(verdicts)
    }

    async fn check(&mut self, connection: &mut PgConnection) -> Result<Target, sqlx::Error> {
        if let Some((target, at)) = self.checked
            && at.elapsed() < CHECK_KEPT
        {
            return Ok(target);
        }
        let TimelineForwarder { forwarder, schema, .. } = &self.timeline;
        let adoption = Adoption::of(connection, schema, forwarder.as_str()).await?;
        let target = Target { adoption, verified: verified::is_needed(connection, schema).await? };
        self.checked = Some((target, Instant::now()));
        Ok(target)
    }

    /// Events that are there under another writer's ids. Only those from before an adoption are looked up: the live ones cost
    /// nothing. Where an index keeps a second action out it is met on the way in, but when writing over.
    async fn adopted_ids(
        &self,
        connection: &mut PgConnection,
        adoption: Adoption,
        events: &[AuditEvent],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let TimelineForwarder { table, overwrite, .. } = &self.timeline;
        let ids: Vec<Uuid> = match adoption {
            Adoption::Before(until) => {
                let from_before = |event: &&AuditEvent| {
                    event.occurred_at.is_none_or(|at| at < until)
                        || event.inserted_at.is_some_and(|at| at < until)
                };
                events.iter().filter(from_before).map(|event| event.id).collect()
            }
            Adoption::All if *overwrite => events.iter().map(|event| event.id).collect(),
            Adoption::All | Adoption::None => Vec::new(),
        };
        if ids.is_empty() { Ok(HashSet::new()) } else { adoption.find(connection, table, &ids).await }
    }
}
