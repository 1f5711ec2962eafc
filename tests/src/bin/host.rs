//! A host's own consumer, with a forwarder that misbehaves on demand: what it does to an event is the event's action.

#![allow(missing_docs, clippy::unwrap_used, reason = "part of the tests")]

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use consumer::prelude::*;
use serde::Deserialize;

fn main() -> ExitCode {
    let mut registry = Registry::with_built_in();
    registry.register("faulty", FaultyKind);
    cli::main(registry)
}

struct FaultyKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Where it writes a line for each event that it takes.
    path: PathBuf,
    /// While this file is there, `faulty.retry` fails.
    failing: Option<PathBuf>,
    /// Nobody is there.
    #[serde(default)]
    away: bool,
}

#[derive(Clone)]
struct FaultyForwarder {
    path: PathBuf,
    failing: Option<PathBuf>,
    away: bool,
    panics: Arc<AtomicU32>,
}

impl ForwarderKind for FaultyKind {
    fn configure(
        &self,
        settings: &ForwarderSettings,
        _: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        let Options { path, failing, away } = forwarder::options(settings)?;
        Ok(Arc::new(FaultyForwarder { path, failing, away, panics: Arc::default() }))
    }
}

impl ForwarderFactory for FaultyForwarder {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }

    /// What it does not look at its role need not be allowed to read.
    fn columns(&self) -> &[&str] {
        &["action"]
    }

    fn target(&self) -> BoxFuture<'_, Result<Option<String>, ForwardError>> {
        Box::pin(async {
            if self.away { Err(ForwardError::unavailable("faulty: nobody is there")) } else { Ok(None) }
        })
    }
}

impl FaultyForwarder {
    async fn take(&self, event: &AuditEvent) -> Result<Verdict, ForwardError> {
        match event.action.as_deref() {
            // As a stack overflow or the system's memory killer would end it: no destructor runs, nothing is caught.
            Some("faulty.abort") => std::process::abort(),
            // As one that eats memory until somebody ends it.
            Some("faulty.abort_late") => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                std::process::abort();
            }
            Some("faulty.panic") => panic!("panic number {}", self.panics.fetch_add(1, Ordering::Relaxed)),
            Some("faulty.hang") => tokio::time::sleep(Duration::from_secs(3_600)).await,
            Some("faulty.refuse") => return Err(ForwardError::Rejected("never".into())),
            Some("faulty.retry") if self.failing.as_ref().is_some_and(|path| path.exists()) => {
                return Ok(Verdict::Retry("not today".into()));
            }
            _ => {}
        }
        let mut file = File::options().create(true).append(true).open(&self.path).unwrap();
        // One write a line: workers append to the same file.
        file.write_all(format!("{}\n", event.id).as_bytes()).unwrap();
        Ok(Verdict::Delivered)
    }
}

impl Forwarder for FaultyForwarder {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async move {
            let mut verdicts = Vec::new();
            for event in events {
                verdicts.push(self.take(event).await?);
            }
            Ok(verdicts)
        })
    }
}
