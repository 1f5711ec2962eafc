//! The operational endpoint of a service: `/healthz`, `/readyz` and `/metrics`.

use std::time::Duration;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    process::{
        health::{Health, Readiness},
        telemetry::names,
    },
    service::tasks::Tasks,
    settings::Listen,
};

/// What `/metrics` returns if the service was started without metrics.
const NO_METRICS: &str =
    "this service was started without a metrics handle: its metrics are where its host shows its own\n";

/// Where the endpoint listens, and what it renders.
#[derive(Debug, Default)]
pub struct Endpoint {
    /// Bound already; without it the address of the settings is bound.
    pub listener: Option<TcpListener>,
    /// Renders `/metrics`; without it there are none.
    pub metrics: Option<PrometheusHandle>,
}

/// The address of the settings cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {key}; another process may: --set {key}=127.0.0.1:0")]
pub struct ListenError {
    key: String,
    source: std::io::Error,
}

impl Endpoint {
    /// Serves until `shutdown`, as one of `tasks`; not at all when the settings say `off` and no listener was passed.
    ///
    /// # Errors
    /// When the address of the settings, which stands under `key`, cannot be bound.
    pub async fn start(
        self,
        key: &str,
        listen: Listen,
        health: &Health,
        shutdown: &CancellationToken,
        tasks: &Tasks,
    ) -> Result<(), ListenError> {
        let refused = |source| ListenError { key: key.to_owned(), source };
        let listener = match (self.listener, listen) {
            (Some(listener), _) => Some(listener),
            (None, Listen::At(address)) => Some(TcpListener::bind(address).await.map_err(refused)?),
            (None, Listen::Off) => None,
        };
        let (health, shutdown) = (health.clone(), shutdown.clone());
        let metrics = self.metrics;
        let Some(listener) = listener else {
            // What is measured is taken in, whether or not anybody asks for it: otherwise every value would be kept.
            tasks.spawn(async move {
                shutdown.run_until_cancelled(upkeep(&health, metrics.as_ref())).await;
            });
            return Ok(());
        };
        let address = listener.local_addr().map_err(refused)?;
        let router = router(health.clone(), metrics.clone());
        tasks.spawn(async move {
            let server =
                axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
            tokio::select! {
                result = server => if let Err(error) = result {
                    tracing::error!(%error, "the operational endpoint stopped");
                },
                () = upkeep(&health, metrics.as_ref()) => {}
            }
        });
        tracing::info!(%address, "operational endpoint: /healthz, /readyz, /metrics");
        Ok(())
    }
}

fn router(health: Health, metrics: Option<PrometheusHandle>) -> Router {
    let rendered = move || {
        let answer = match &metrics {
            Some(metrics) => (StatusCode::OK, metrics.render()),
            None => (StatusCode::NOT_FOUND, NO_METRICS.to_owned()),
        };
        std::future::ready(answer)
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(rendered))
        .with_state(health)
}

/// What is to be done every second.
async fn upkeep(health: &Health, metrics: Option<&PrometheusHandle>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(metrics) = metrics {
            metrics.run_upkeep();
        }
        for component in health.readiness().components {
            gauge!(names::OLDEST_WORK_SECONDS, "component" => component.name)
                .set(component.oldest_work_seconds);
        }
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[tokio::test]
    async fn what_is_measured_is_taken_in_where_nothing_listens() -> Result<(), Box<dyn std::error::Error>> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _installed = metrics::set_default_local_recorder(&recorder);
        let handle = recorder.handle();
        let (health, shutdown, tasks) = (Health::default(), CancellationToken::new(), Tasks::default());
        let _component = health.component("pages", Duration::from_secs(60));
        let endpoint = Endpoint { listener: None, metrics: Some(handle.clone()) };
        endpoint.start("publisher.listen", Listen::Off, &health, &shutdown, &tasks).await?;
        let taken_in = async {
            while !handle.render().contains("{component=\"pages\"}") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), taken_in).await?;
        shutdown.cancel();
        tasks.finish().await;
        Ok(())
    }
}
