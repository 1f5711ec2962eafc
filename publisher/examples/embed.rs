//! A publisher in the process of an application: one binary less to deploy.
//!
//! Once `publisher attach` and `threadline install` have been run:
//!
//! ```sh
//! SOURCE_DATABASE_URL=postgres://user@localhost/app NATS_URL=nats://localhost \
//!     cargo run --package publisher --example embed_publisher
//! ```
//!
//! Everything else that may be set is in docs/configuration.md: give a settings file as the first argument.

#![allow(clippy::print_stdout, reason = "an example")]

use std::{env, error::Error, fs, process::ExitCode};

use publisher::{CancellationToken, ConnectionUrl, Service, ServiceErrorKind, Settings, metrics_builder};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let text = env::args().nth(1).map(fs::read_to_string).transpose()?.unwrap_or_default();
    let mut settings = Settings::from_toml(&text)?;
    settings.source.url = Some(ConnectionUrl::new(env::var("SOURCE_DATABASE_URL")?));
    settings.broker.url = Some(ConnectionUrl::new(env::var("NATS_URL")?));

    // The recorder of the whole process is the application's to install, and so is the place where it is shown.
    let metrics = metrics_builder()?.install_recorder()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/readyz", listener.local_addr()?);

    let shutdown = CancellationToken::new();
    let service = Service::new(settings).listener(listener).metrics(metrics);
    let mut publisher = tokio::spawn(service.run(shutdown.clone()));

    // The application does its own work here, until it is told to stop.
    let ended = tokio::select! {
        ended = &mut publisher => ended?,
        told = tokio::signal::ctrl_c() => {
            told?;
            shutdown.cancel();
            publisher.await?
        }
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == ServiceErrorKind::Misconfigured => {
            println!("the settings cannot be used, a restart is in vain: {error}");
            Ok(ExitCode::from(2))
        }
        Err(error) => Err(error.into()),
    }
}
