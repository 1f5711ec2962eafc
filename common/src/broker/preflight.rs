//! The steps in which a service that starts reaches its servers. What is checked on the way keeps it from starting, if it is an error.

use async_nats::{
    Client,
    jetstream::{Context as JetStream, stream::Stream},
};

use crate::{
    broker::{self, BrokerError, SourceIdentity, doctor as broker_doctor},
    database::Database,
    doctor::{Refused, Report, RunMode, Service, settings as settings_doctor, source},
    session::Session,
    settings::Settings,
};

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// The source database cannot be read.
    #[error("the source database")]
    Source(#[source] sqlx::Error),
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(BrokerError),
    /// A check found what keeps the service from working as promised.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl PreflightError {
    /// Whether settings are at fault, which neither waiting nor a restart fixes.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::Source(error) => matches!(error, sqlx::Error::Configuration(_)),
            Self::Broker(error) => error.is_misuse(),
            Self::Refused(refused) => refused.is_misuse(),
        }
    }
}

/// What has been found so far. The steps are its methods, in the order in which they are taken.
#[derive(Debug)]
pub struct Preflight<'a> {
    settings: &'a Settings,
    service: Service,
    /// For checks that a service adds between the steps.
    pub report: Report,
}

impl<'a> Preflight<'a> {
    /// Checks the settings.
    #[must_use]
    pub fn new(settings: &'a Settings, service: Service) -> Self {
        let mut report = Report::new(RunMode::Boot);
        match service {
            Service::Publisher => settings_doctor::publisher(&mut report, settings),
            Service::Consumer => settings_doctor::consumer(&mut report, settings),
        }
        Self { settings, service, report }
    }

    /// Checks the source database.
    ///
    /// # Errors
    /// When it cannot be read, with every finding of severity error.
    pub async fn check_source(
        &mut self,
        database: &Database,
        connection: &mut Session,
    ) -> Result<(), PreflightError> {
        let Self { settings, service, report } = self;
        if let Err(error) = source::check(report, settings, *service, database, connection).await {
            report.log_and_fail_on_errors()?;
            return Err(PreflightError::Source(error));
        }
        Ok(())
    }

    /// Reads whose stream ours is.
    ///
    /// # Errors
    /// When the source database is unavailable.
    pub async fn source_identity(
        &self,
        database: &Database,
        connection: &mut Session,
    ) -> Result<SourceIdentity, PreflightError> {
        let identity = SourceIdentity::read(connection, &self.settings.source.table);
        let identity = database.with_timeout(identity).await.map_err(PreflightError::Source)?;
        Ok(identity.named(self.settings.source.name.as_deref()))
    }

    /// Gets the stream, and creates it where it is missing, unless something is wrong.
    ///
    /// # Errors
    /// When the broker is unavailable or does not fit, with every finding of severity error.
    pub async fn ensure_stream(
        &mut self,
        client: &Client,
        identity: &SourceIdentity,
    ) -> Result<(JetStream, Stream), PreflightError> {
        let Self { settings, service, report } = self;
        if report.has_errors() {
            // Nothing is created by a service that does not start.
            broker_doctor::connect_and_read(report, settings, *service, client, Some(identity)).await;
        }
        report.fail_on_errors()?;
        let context = broker::context(client, &settings.broker);
        match broker::ensure_stream(&context, &settings.broker, identity).await {
            Ok(stream) => {
                broker_doctor::check(&mut self.report, settings, *service, client, &stream).await;
                Ok((context, stream))
            }
            Err(error) => Err(self.refused_by_broker(error)),
        }
    }

    /// An error of the broker, as the finding that it is.
    #[must_use]
    pub fn refused_by_broker(&mut self, error: BrokerError) -> PreflightError {
        broker_doctor::record_error(&mut self.report, &error);
        match self.report.log_and_fail_on_errors() {
            Err(refused) => refused.into(),
            Ok(()) => PreflightError::Broker(error),
        }
    }

    /// Logs warnings.
    ///
    /// # Errors
    /// When there are errors, with all of them and their remedies.
    pub fn finish(self) -> Result<(), PreflightError> {
        Ok(self.report.log_and_fail_on_errors()?)
    }
}
