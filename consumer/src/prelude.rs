//! Everything that a forwarder of a host's own and its binary, or the process that embeds it, need: `use consumer::prelude::*;`.

pub use common::{
    doctor::{Check, Problem, Severity, checks::TARGET_UNREACHABLE},
    event::AuditEvent,
    failures::Reason,
    settings::{ConnectionUrl, ForwarderSettings, Settings, SettingsError},
};
pub use futures::future::BoxFuture;
pub use serde_json::value::RawValue;
pub use time::OffsetDateTime;
pub use toml::Table;
pub use uuid::Uuid;

pub use crate::{
    CancellationToken, PrometheusHandle, Service, ServiceError, ServiceErrorKind, cli,
    forwarder::{
        self, ConfigureError, ForwardError, Forwarder, ForwarderFactory, ForwarderKind, MissingKinds,
        Preflight, Registry, Verdict,
    },
    metrics_builder,
};
