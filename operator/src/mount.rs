//! From settings to a service that a host mounts.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
#[cfg(feature = "pipeline")]
use common::identifier::TableName;
use futures::future::{self, FutureExt as _};
use sqlx::{
    Connection as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::{StorageSchema, Timeline, storage::Location, telemetry::OperatorTurn};
use tower_http::csrf::{ConfigError, CsrfLayer};

#[cfg(feature = "pipeline")]
use crate::source::SourceOptions;
use crate::{
    Limits, OperatorAuth, Policies,
    auth::Auth,
    feeds::Feeds,
    kept::Kept,
    limits::Turns,
    routes,
    shared::{Ended, Shared},
    viewings::Viewings,
};

/// The surface before it is said who may see it, or, as `Operator<Authorized>`, behind that.
#[must_use = "it does nothing until it is mounted"]
pub struct Operator<A = ()> {
    said: Said,
    auth: A,
}

/// What the host has said.
struct Said {
    options: PgConnectOptions,
    schema: StorageSchema,
    limits: Limits,
    title: String,
    csrf: CsrfLayer,
    csp_report: Option<String>,
    writer: Option<PgConnectOptions>,
    policies: Option<Policies>,
    exports: Option<Location>,
    views: Option<Duration>,
    ended: Ended,
    #[cfg(feature = "pipeline")]
    source: SourceOptions,
}

/// Somebody decides who may see what.
pub struct Authorized(Auth);

impl Operator<()> {
    /// Over the timeline in `schema` of the database that `options` lead to. It has connections of its own, on which nothing can be
    /// written; the role `audit_reader` suffices.
    pub fn new(options: PgConnectOptions, schema: StorageSchema) -> Self {
        let said = Said {
            options,
            schema,
            limits: Limits::default(),
            title: "Threadline".to_owned(),
            csrf: CsrfLayer::new(),
            csp_report: None,
            writer: None,
            policies: None,
            exports: None,
            views: None,
            ended: future::pending().boxed().shared(),
            #[cfg(feature = "pipeline")]
            source: SourceOptions::default(),
        };
        Self { said, auth: () }
    }

    /// Who decides about every request. There is no router before.
    pub fn auth(self, auth: impl OperatorAuth) -> Operator<Authorized> {
        Operator { said: self.said, auth: Authorized(Arc::new(auth)) }
    }
}

impl<A> Operator<A> {
    /// What it takes at most.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.said.limits = limits;
        self
    }

    /// What its pages are called.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.said.title = title.into();
        self
    }

    /// An origin besides the request's own, `https://host`, whose forms are accepted: of a proxy that changes the header `Host`.
    ///
    /// # Errors
    /// When it is no origin.
    pub fn trusted_origin(mut self, origin: &str) -> Result<Self, ConfigError> {
        self.said.csrf = self.said.csrf.add_trusted_origin(origin)?;
        Ok(self)
    }

    /// Lets people do what their grants allow, over two connections that may write: the role `audit_surface` suffices. Without it, nothing can
    /// be done, and pages show commands instead.
    pub fn writing(mut self, options: PgConnectOptions) -> Self {
        self.said.writer = Some(options);
        self
    }

    /// What the host has configured and no table holds: with it pages compare that with what is deployed.
    pub fn policies(mut self, policies: Policies) -> Self {
        self.said.policies = Some(policies);
        self
    }

    /// Where exports are stored, for workers that bring them there and for people who fetch them here: a folder of this machine, `file:///folder`.
    /// It needs [`Self::writing`].
    pub fn exports(mut self, folder: Location) -> Self {
        self.said.exports = Some(folder);
        self
    }

    /// Records who has looked at what as an action `audit.viewed`, with a digest of the filter and no value: one for each actor and place in that
    /// time and this process. It needs [`Self::writing`]. A page that cannot be recorded is shown all the same, and an error is logged.
    pub fn record_views(mut self, every: Duration) -> Self {
        self.said.views = Some(every);
        self
    }

    /// When the service ends: pages that follow the timeline end with it, and let a graceful shutdown be done. Browsers come back by themselves.
    /// Without it they go on for up to a minute.
    pub fn shutdown(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.said.ended = shutdown.boxed().shared();
        self
    }

    /// Where browsers report what the content security policy has kept from being loaded.
    pub fn csp_report(mut self, url: impl Into<String>) -> Self {
        self.said.csp_report = Some(url.into());
        self
    }

    /// Shows the pipeline too: the outbox in the database that `source` leads to, and the failures of the events of `table` there. It has
    /// connections of its own, on which nothing can be written, and which need the server itself: behind a transaction-mode pooler
    /// they fail. The role `audit_operator` suffices for all but the way of one event, which needs `audit_decider`.
    #[cfg(feature = "pipeline")]
    pub fn pipeline(mut self, source: PgConnectOptions, table: TableName) -> Self {
        self.said.source.reading = Some((source, table));
        self
    }

    /// Lets those who have the [capability](crate::Capability::Redrive) have failed events delivered again, on connections to the same
    /// database that may write, as `audit_decider`. Without [`Self::pipeline`] it does nothing; without this the pages show the command.
    #[cfg(feature = "pipeline")]
    pub fn redriving(mut self, source: PgConnectOptions) -> Self {
        self.said.source.redriving = Some(source);
        self
    }
}

impl Operator<Authorized> {
    /// The surface as a service for `nest_service`: `/audit` and `/audit/` lead to it both.
    pub fn into_service(self) -> Router {
        self.router()
    }

    /// The surface as a router.
    pub fn router(self) -> Router {
        let Self { said, auth: Authorized(auth) } = self;
        if said.writer.is_none() && (said.views.is_some() || said.exports.is_some()) {
            tracing::error!(
                "the operator surface has no connection that may write: views are not recorded, and nothing is exported"
            );
        }
        let (schema, limits) = (said.schema, said.limits);
        let writer = said.writer.map(|options| writing_pool(options, &limits));
        let viewings = said.views.zip(writer.clone());
        let shared = Shared {
            following: pool(said.options.clone(), &limits, FOLLOWERS),
            pool: pool(said.options, &limits, limits.connections),
            feeds: Feeds::default(),
            viewings: viewings.map(|(every, pool)| Viewings::new(every, Timeline::new(pool, schema.clone()))),
            writer,
            schema,
            turns: Turns::new(OperatorTurn::Request, limits.connections as usize, limits.per_actor),
            tails: Turns::new(OperatorTurn::Tail, limits.tails, limits.per_actor),
            downloads: Turns::new(OperatorTurn::Download, limits.downloads, limits.per_actor),
            limits,
            title: said.title,
            csp_report: said.csp_report,
            policies: said.policies,
            exports: said.exports,
            ended: said.ended,
            coverage: Kept::default(),
            checks: Kept::default(),
            verifying: Mutex::default(),
            #[cfg(feature = "pipeline")]
            source: said.source.connect(&limits),
            auth,
        };
        routes::router(shared, said.csrf)
    }
}

/// Connections that cannot write, and whose statements end.
fn pool(options: PgConnectOptions, limits: &Limits, connections: u32) -> PgPool {
    let milliseconds = limits.statement.as_millis().to_string();
    let options = options.application_name("threadline-operator").options([
        ("search_path", "pg_catalog,pg_temp"),
        ("default_transaction_read_only", "on"),
        ("statement_timeout", milliseconds.as_str()),
        ("lock_timeout", milliseconds.as_str()),
        ("work_mem", "16MB"),
        // A page reads little, and compiling its statements would take longer than running them.
        ("jit", "off"),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_secs(300))
        // One that has just been used is there.
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// How long an idle connection is not asked whether it is still there.
const TRUSTED: Duration = Duration::from_secs(1);

/// Connections for pages that follow the timeline.
const FOLLOWERS: u32 = 2;

/// Connections for what people do.
const WRITERS: u32 = 2;

/// Connections that may write, and whose statements end.
fn writing_pool(options: PgConnectOptions, limits: &Limits) -> PgPool {
    let milliseconds = limits.statement.as_millis().to_string();
    let options = options.application_name("threadline-operator").options([
        ("search_path", "pg_catalog,pg_temp"),
        ("statement_timeout", milliseconds.as_str()),
        ("lock_timeout", milliseconds.as_str()),
    ]);
    PgPoolOptions::new()
        .max_connections(WRITERS)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options)
}

impl<A> fmt::Debug for Operator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("schema", &self.said.schema)
            .field("limits", &self.said.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorized")
    }
}
