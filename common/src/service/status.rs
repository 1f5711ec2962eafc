//! What both status commands share: which servers have answered, and the exit status that follows from it.

use std::{error::Error, time::Duration};

use connection_url::ConnectionUrl;
use serde::Serialize;
use sqlx::Connection as _;

use crate::{database::Database, identifier::ForwarderId, service::boot, settings::Settings};

/// The longest that a statement of a status command may take at a timeline.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a server has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It has.
    Ok,
    /// It has not, or it lacks what is to be shown.
    #[serde(rename = "failed")]
    Failed,
}

/// A database that a status command queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseOverview {
    /// Whether it has answered.
    pub state: ServerState,
    /// Why it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl DatabaseOverview {
    /// Of an attempt to ask it.
    #[must_use]
    pub fn of<T, E: AsRef<dyn Error + 'static> + ?Sized>(asked: Result<&T, &E>) -> Self {
        match asked {
            Ok(_) => Self { state: ServerState::Ok, error: None },
            Err(error) => Self { state: ServerState::Failed, error: Some(errors::line(error.as_ref())) },
        }
    }

    /// Its name, if it has not answered.
    fn missing(&self, name: &'static str) -> Option<&'static str> {
        (self.state == ServerState::Failed).then_some(name)
    }
}

/// The timeline of one forwarder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineOverview {
    /// The forwarder's id.
    pub forwarder: ForwarderId,
    /// Its database.
    #[serde(flatten)]
    pub database: DatabaseOverview,
}

impl TimelineOverview {
    /// A line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let state = self.database.error.as_deref().unwrap_or("answers");
        format!("timeline  {}: {state}\n", self.forwarder)
    }
}

/// Asks the database of each forwarder of kind threadline; those for which these settings have no URL are left out: whoever
/// reads the source need not be let into the timeline.
pub async fn timelines(settings: &Settings, application_name: &str) -> Vec<TimelineOverview> {
    let mut overviews = Vec::new();
    for forwarder in settings.forwarder.iter().filter(|forwarder| forwarder.kind == "threadline") {
        let own = forwarder.options.get("url").and_then(|url| url.as_str()).map(ConnectionUrl::new);
        let Some(url) = own.or_else(|| settings.threadline.url.clone()) else { continue };
        let asked = async {
            let database = Database::new(&url, application_name, STATEMENT_TIMEOUT, false)?;
            database.connect_directly().await?.close().await
        };
        let asked = asked.await.map_err(Box::<dyn Error>::from);
        let database = DatabaseOverview::of(asked.as_ref());
        overviews.push(TimelineOverview { forwarder: forwarder.id.clone(), database });
    }
    overviews
}

/// Servers that are needed and have not answered; what is known without them has been printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} could not be asked: the rest is shown above, and why", .0.join(" and "))]
pub struct Unanswered(Vec<&'static str>);

/// The end of both status commands.
///
/// # Errors
/// When a server that these settings need has not answered. `broker` is its name, if it is the broker.
pub fn conclude(
    source: &DatabaseOverview,
    broker: Option<&'static str>,
    timelines: &[TimelineOverview],
) -> Result<(), Unanswered> {
    let source = source.missing("the source database");
    let timeline = timelines.iter().find_map(|timeline| timeline.database.missing("the timeline"));
    let missing: Vec<&str> = [source, broker, timeline].into_iter().flatten().collect();
    if missing.is_empty() { Ok(()) } else { Err(Unanswered(missing)) }
}

/// Whether an error is about settings, which have an exit status of their own.
#[must_use]
pub fn is_misuse(error: &(dyn Error + 'static)) -> bool {
    boot::status(error) == boot::MISUSED
}
