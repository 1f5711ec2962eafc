//! A consumer in the process of an application, with a forwarder that is a function of that application.
//!
//! Once `publisher attach` has been run, and while a publisher runs (publisher/examples/embed.rs is one):
//!
//! ```sh
//! SOURCE_DATABASE_URL=postgres://user@localhost/app NATS_URL=nats://localhost \
//!     cargo run --package consumer --example embed_consumer
//! ```
//!
//! Without `NATS_URL` it reads the log itself, and no publisher is needed. A settings file may be the first argument.

#![allow(clippy::print_stdout, reason = "an example")]

use std::{env, error::Error, fs, sync::Arc};

use consumer::prelude::*;

/// The kind, its one forwarder and its workers: it has no options and no connection, so they are the same.
#[derive(Debug, Clone, Copy)]
struct Print;

impl ForwarderKind for Print {
    fn configure(
        &self,
        _: &ForwarderSettings,
        _: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        Ok(Arc::new(*self))
    }
}

impl ForwarderFactory for Print {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(*self)
    }

    /// Nothing else is read, and the role needs no permission for it.
    fn columns(&self) -> &[&str] {
        &["action"]
    }
}

impl Forwarder for Print {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        for event in events {
            println!("{} {}", event.id, event.action.as_deref().unwrap_or("-"));
        }
        Box::pin(async { Ok(vec![Verdict::Delivered; events.len()]) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let text = match env::args().nth(1) {
        Some(path) => fs::read_to_string(path)?,
        None => "[consumer]\nlisten = \"off\"\n[[forwarder]]\nid = \"printed\"\nkind = \"print\"".to_owned(),
    };
    let mut settings = Settings::from_toml(&text)?;
    settings.source.url = Some(ConnectionUrl::new(env::var("SOURCE_DATABASE_URL")?));
    settings.broker.url = env::var("NATS_URL").ok().map(ConnectionUrl::new);

    let mut registry = Registry::with_built_in();
    registry.register("print", Print);
    let shutdown = CancellationToken::new();
    let mut consumer = tokio::spawn(Service::new(settings, registry).run(shutdown.clone()));

    // The application does its own work here, until it is told to stop.
    tokio::select! {
        ended = &mut consumer => ended??,
        told = tokio::signal::ctrl_c() => {
            told?;
            shutdown.cancel();
            consumer.await??;
        }
    }
    Ok(())
}
