//! The service: settings, who may see what, the pages, and the operational endpoint beside them.

use std::time::Duration;

use axum::{Router, middleware::from_fn};
use common::{
    process::{
        health::{Health, Progress},
        shutdown,
        telemetry::names,
    },
    service::{ServiceError, endpoint::Endpoint, tasks::Tasks},
    settings::{AuthKind, ConnectionUrl, OperatorSettings, Place, Settings},
};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::{
    Connection as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::StorageSchema;
use tokio_util::sync::CancellationToken;

use super::{
    auth::{Auth, misused},
    listener::Listener,
    measure,
    refused::Refused,
};
use crate::{Limits, Operator, Policies};

/// Between two looks whether the timeline can be reached.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long one of them may take.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// The surface on its own.
#[derive(Debug)]
#[must_use = "it does nothing until it runs"]
pub struct Service {
    settings: Settings,
    policies: Option<Policies>,
    metrics: Option<PrometheusHandle>,
}

/// The address or socket of the settings cannot be served on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve on operator.listen = {place}: {source}")]
struct CannotListen {
    place: Place,
    source: std::io::Error,
}

impl Service {
    /// With these settings, of which it takes `[operator]` and `[threadline]`.
    pub fn new(settings: Settings) -> Self {
        Self { settings, policies: None, metrics: None }
    }

    /// What is configured of tables, to be compared with what is deployed.
    pub fn policies(self, policies: Option<Policies>) -> Self {
        Self { policies, ..self }
    }

    /// What `/metrics` renders.
    pub fn metrics(self, metrics: PrometheusHandle) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Whether it could run with these settings and the files that they name. No server is asked.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(self) -> Result<(), ServiceError> {
        self.settings.validate().map_err(ServiceError::new)?;
        self.router(CancellationToken::new()).map(drop)
    }

    /// Serves until `shutdown`. A database that is away is waited for: pages say so, and so does `/readyz`.
    ///
    /// # Errors
    /// When the settings cannot be used, or an address of them is taken.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        self.settings.validate().map_err(ServiceError::new)?;
        let shutdown = shutdown.child_token();
        let router = self.router(shutdown.clone())?;
        let operator = &self.settings.operator;
        let place = operator.listen.clone();
        let listener = Listener::bind(&place).await;
        let listener = listener.map_err(|source| ServiceError::new(CannotListen { place, source }))?;
        begin_counters();
        let (health, tasks) = (Health::default(), Tasks::default());
        let _dropped_with_it = tasks.drop_guard();
        let timeline = health.component("timeline", operator.unready_after);
        let endpoint = Endpoint { listener: None, metrics: self.metrics };
        let key = "operator.metrics_listen";
        let started = endpoint.start(key, operator.metrics_listen, &health, &shutdown, &tasks);
        started.await.map_err(ServiceError::new)?;
        let (probing, until) = (probed(options(&self.settings)?, timeline), shutdown.clone());
        tasks.spawn(async move {
            until.run_until_cancelled_owned(probing).await;
        });
        if operator.auth.kind == Some(AuthKind::None) {
            tracing::warn!(
                "operator.auth.kind is \"none\": whoever reaches this machine's own address or the socket sees everything, and is \
                 called {}",
                operator.auth.none.actor
            );
        }
        let place = listener.place().map_err(ServiceError::new)?;
        tracing::info!(%place, "the operator surface is there");
        let ended = tokio::select! {
            ended = listener.serve(router, shutdown.clone()) => ended,
            // A file that is being downloaded would keep it for minutes.
            () = shutdown::grace(&shutdown) => Ok(()),
        };
        shutdown.cancel();
        tasks.finish().await;
        tasks.abort().await;
        ended.map_err(ServiceError::new)?;
        tracing::info!("stopped");
        Ok(())
    }

    fn router(&self, shutdown: CancellationToken) -> Result<Router, ServiceError> {
        let operator = &self.settings.operator;
        let schema: StorageSchema = self
            .settings
            .threadline
            .schema
            .parse()
            .map_err(|error| misused(format!("threadline.schema: {error}")))?;
        let auth = Auth::of(operator)?;
        let mut surface = Operator::new(options(&self.settings)?, schema)
            .limits(limits(operator))
            .title(operator.title.as_str())
            .shutdown(shutdown.cancelled_owned());
        if let Some(policies) = self.policies.clone() {
            surface = surface.policies(match operator.purges_every {
                Some(interval) => policies.purges_every(interval),
                None => policies,
            });
        }
        if let Some(every) = operator.record_views {
            surface = surface.record_views(every);
        }
        for origin in &operator.trusted_origins {
            surface = surface.trusted_origin(origin).map_err(|error| {
                misused(format!(
                    "operator.trusted_origins: {origin:?} is no origin such as https://host: {error}"
                ))
            })?;
        }
        Ok(connected(surface, &self.settings)?.auth(auth).router().layer(from_fn(measure::measured)))
    }
}

/// With what else the settings name: connections that may write, the pipeline, the folder of exports.
fn connected(mut surface: Operator, settings: &Settings) -> Result<Operator, ServiceError> {
    let operator = &settings.operator;
    let read = |key: &str, url: &ConnectionUrl| {
        url.postgres_with_files().map_err(|error| misused(format!("{key}: {error}")))
    };
    if let Some(url) = &operator.writer_url {
        surface = surface.writing(read("operator.writer_url", url)?);
    }
    if let Some(folder) = &operator.exports_directory {
        let location = format!("file://{folder}").parse();
        surface = surface
            .exports(location.map_err(|error| misused(format!("operator.exports_directory: {error}")))?);
    }
    if let Some(url) = &settings.source.url {
        surface = surface.pipeline(read("source.url", url)?, settings.source.table.clone());
    }
    if let Some(url) = &operator.redrive_url {
        surface = surface.redriving(read("operator.redrive_url", url)?);
    }
    Ok(surface)
}

fn options(settings: &Settings) -> Result<PgConnectOptions, ServiceError> {
    let Some(url) = &settings.threadline.url else {
        return Err(misused("threadline.url (THREADLINE_DATABASE_URL) is not set: it leads to the timeline"));
    };
    url.postgres_with_files().map_err(|error| misused(format!("threadline.url: {error}")))
}

fn limits(operator: &OperatorSettings) -> Limits {
    let settings = &operator.limits;
    Limits {
        connections: settings.connections,
        per_actor: settings.requests_per_actor,
        tails: settings.tails,
        statement: settings.statement_timeout,
        request: settings.request_timeout,
        ..Limits::default()
    }
}

fn begin_counters() {
    threadline::telemetry::begin();
    names::describe();
    let reasons = Refused::ALL.map(Refused::term);
    names::begin(&["audit_operator_"], &[("status", &measure::CLASSES), ("reason", &reasons)]);
}

/// Looks whether the timeline can be reached, again and again, on a connection of its own: pages that wait for theirs do not make it unready.
async fn probed(options: PgConnectOptions, timeline: Progress) {
    let options = options.application_name("threadline-operator-probe");
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PROBE_MAX).connect_lazy_with(options);
    loop {
        let reached = async { pool.acquire().await?.ping().await };
        let reached = tokio::time::timeout(PROBE_MAX, reached).await;
        match reached {
            Ok(Ok(())) => {
                if let Some(resumed) = timeline.resumed() {
                    tracing::info!(away = ?resumed.away, "the timeline can be reached again");
                }
            }
            Ok(Err(error)) => timeline.waiting(format!("timeline: {}", errors::line(&error))),
            Err(_) => timeline.waiting("timeline: it does not answer"),
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}
