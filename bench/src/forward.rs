//! What every peer does with a reference: reload the row by its id, insert the action. The pipeline's own code for both,
//! so that a comparison is one of the ways to carry references and not of statements.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use common::{
    database::Database,
    event::AuditEvent,
    identifier::{ForwarderId, TableName},
    settings::{ConnectionUrl, Layers},
};
use consumer::{
    engine::source::{LoadedRow, Source},
    forwarder::{Forwarder, ForwarderFactory, MissingKinds, Registry, Verdict},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Longest statement. Long enough for a server that is busy with everything else of the comparison.
const TIMEOUT: Duration = Duration::from_secs(30);

/// As much as a row may take.
const BATCH_BYTES: usize = 16 << 20;

/// From one source to one timeline; makes a [`Forward`] for every worker.
#[derive(Clone)]
pub(crate) struct Route {
    source: Database,
    table: TableName,
    id: ForwarderId,
    timeline: Arc<dyn ForwarderFactory>,
}

/// One worker's forward, with connections of its own.
pub(crate) struct Forward {
    source: Source,
    timeline: Box<dyn Forwarder>,
    id: ForwarderId,
}

impl Route {
    /// Checks both URLs; connects to nothing yet.
    pub(crate) fn new(source_url: &str, timeline_url: &str) -> anyhow::Result<Self> {
        let file = format!(
            "[threadline]\nurl = {}\n[[forwarder]]\nid = \"peer\"\nkind = \"threadline\"",
            serde_json::to_string(timeline_url)?
        );
        let (settings, _) = Layers::default()
            .text(&file, "bench")?
            .build()
            .context("the settings of the peers' forwarder: is the timeline's URL one of PostgreSQL?")?;
        let (forwarder, timeline) = Registry::with_built_in()
            .configure(&settings, MissingKinds::Refused)?
            .pop()
            .context("no forwarder of kind threadline: build the consumer with that feature")?;
        let source = Database::new(&ConnectionUrl::new(source_url), "bench-peer", TIMEOUT, false)
            .context("the source database")?;
        Ok(Self { source, table: "public.audit_events".parse()?, id: forwarder.id, timeline })
    }

    /// A forward for one worker.
    pub(crate) async fn connect(&self) -> anyhow::Result<Forward> {
        let source = Source::connect(&self.source, &self.table, self.timeline.clone(), BATCH_BYTES)
            .await
            .context("the source database of a peer: is the server up, and are its tables there?")?;
        Ok(Forward { source, timeline: self.timeline.build(), id: self.id.clone() })
    }
}

impl Forward {
    /// Forwards the rows with these ids. Repeated, it changes nothing.
    pub(crate) async fn rows(&mut self, ids: &[Uuid]) -> anyhow::Result<()> {
        let slice = self.source.load(&self.id, ids, usize::MAX).await.context("reloading audit rows")?;
        ensure!(
            slice.loaded.len() == ids.len(),
            "{} of {} audit rows are gone or were asked for twice: let nothing else write to the source",
            ids.len() - slice.loaded.len(),
            ids.len()
        );
        let events = slice.loaded.into_iter().map(event).collect::<anyhow::Result<Vec<_>>>()?;
        for verdict in self.timeline.forward(&events).await? {
            ensure!(
                matches!(verdict, Verdict::Delivered | Verdict::AlreadyDelivered),
                "the timeline did not take an audit row of the workload: {verdict:?}"
            );
        }
        Ok(())
    }
}

fn event(row: LoadedRow) -> anyhow::Result<AuditEvent> {
    row.event.map_err(|error| anyhow::anyhow!("audit row {}: {error}", row.id))
}

/// Forwards for handlers that are called again for every job: lent and taken back, so that no job pays for connecting. What
/// a connection pool is to the handlers of an application.
#[derive(Clone)]
pub(crate) struct Forwards {
    route: Route,
    idle: Arc<Mutex<Vec<Forward>>>,
    permits: Arc<Semaphore>,
}

impl Forwards {
    /// With so many; who comes when all are lent waits.
    pub(crate) async fn connect(route: Route, count: usize) -> anyhow::Result<Self> {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            idle.push(route.connect().await?);
        }
        Ok(Self { route, idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(count)) })
    }

    /// Forwards one row. After an error the connections are let go: nobody knows what is still on them.
    pub(crate) async fn row(&self, id: Uuid) -> anyhow::Result<()> {
        let _permit = self.permits.acquire().await?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut forward = match idle {
            Some(forward) => forward,
            None => self.route.connect().await?,
        };
        forward.rows(&[id]).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(forward);
        Ok(())
    }
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards").finish_non_exhaustive()
    }
}
