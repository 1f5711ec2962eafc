//! `consumer failures`: what could not be delivered, and what an operator decides about it.

mod decide;
mod render;

use anyhow::ensure;
use clap::{
    Args, Subcommand,
    builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser},
};
use common::{
    failures::{
        FailureState,
        admin::{self, Filter},
    },
    identifier::ForwarderId,
    outbox,
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    session::Session,
    settings::Settings,
    time_arg::{parse_time, require_range},
};
use time::OffsetDateTime;

use crate::APPLICATION;
use decide::{Discard, Redrive};

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FailuresCommand {
    /// Lists failures, last failed first.
    List {
        /// Which.
        #[command(flatten)]
        filter: FilterArgs,
        /// Only those in this state; may be repeated. Without it all.
        #[arg(long, value_parser = state_parser())]
        state: Vec<FailureState>,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// Prints a JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Shows one failure with its audit row.
    Show {
        /// The event's id, or the `stream:…` of a message that cannot be read.
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        reference: String,
        /// One forwarder's failure only.
        #[arg(long)]
        forwarder: Option<ForwarderId>,
        /// Shows personal fields too, which are masked otherwise. This is recorded.
        #[arg(long)]
        unmask: bool,
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Delivers dead letters again: each enters the log as an entry of its own, addressed to its forwarder.
    Redrive(Redrive),
    /// Marks dead letters, and those on their way to another delivery, as not to be delivered. They stay, with the reason.
    Discard(Discard),
}

const WHICH: &str = "Which failures";

/// Which failures.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// One event.
    #[arg(long, value_name = "ID", help_heading = WHICH, value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// One forwarder's.
    #[arg(long, help_heading = WHICH)]
    forwarder: Option<ForwarderId>,
    /// One reason's, such as `schema_mismatch`.
    #[arg(long, alias = "because", value_name = "REASON", help_heading = WHICH, value_parser = NonEmptyStringValueParser::new())]
    reason_code: Option<String>,
    /// Those of an action; `auth.*` for all that begin like this.
    #[arg(long, help_heading = WHICH, value_parser = NonEmptyStringValueParser::new())]
    action: Option<String>,
    /// Failed last at or after this time: RFC 3339, a date (in UTC), or so long ago, such as `2h`.
    #[arg(long, value_name = "TIME", help_heading = WHICH, value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Failed last before this time.
    #[arg(long, value_name = "TIME", help_heading = WHICH, value_parser = parse_time)]
    until: Option<OffsetDateTime>,
}

impl FilterArgs {
    fn filter(&self, states: Vec<FailureState>) -> Filter {
        Filter {
            forwarder: self.forwarder.clone(),
            reason: self.reason_code.clone(),
            states,
            action: self.action.clone(),
            since: self.since,
            until: self.until,
            reference: self.id.as_deref().map(reference),
        }
    }
}

impl FailuresCommand {
    /// Which failures it is about, where a filter says so.
    fn filter(&self) -> Option<&FilterArgs> {
        match self {
            Self::List { filter, .. } => Some(filter),
            Self::Redrive(redrive) => Some(&redrive.filter),
            Self::Discard(discard) => Some(&discard.filter),
            Self::Show { .. } => None,
        }
    }
}

fn state_parser() -> impl TypedValueParser<Value = FailureState> {
    PossibleValuesParser::new(FailureState::NAMES).try_map(|name| name.parse::<FailureState>())
}

/// UUIDs are stored in lower case, with hyphens.
fn reference(text: &str) -> String {
    text.parse::<uuid::Uuid>().map_or_else(|_| text.to_owned(), |id| id.to_string())
}

/// Runs one of them.
///
/// # Errors
/// When the source database is away, or the arguments do not fit it.
pub(crate) async fn run(settings: &Settings, command: FailuresCommand) -> anyhow::Result<()> {
    if let Some(filter) = command.filter() {
        require_range(filter.since, filter.until)?;
    }
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    match command {
        FailuresCommand::List { filter, state, limit, json } => {
            let records =
                admin::list(&mut connection, &settings.source.table, &filter.filter(state), limit.into())
                    .await?;
            console::print(&if json { pretty(&records)? } else { render::table(&records, limit) });
            Ok(())
        }
        FailuresCommand::Show { reference, forwarder, unmask, json } => {
            show(settings, &mut connection, reference, forwarder, unmask, json).await
        }
        FailuresCommand::Redrive(redrive) => decide::redrive(settings, &mut connection, redrive).await,
        FailuresCommand::Discard(discard) => decide::discard(settings, &mut connection, discard).await,
    }
}

async fn show(
    settings: &Settings,
    connection: &mut Session,
    reference: String,
    forwarder: Option<ForwarderId>,
    unmask: bool,
    json: bool,
) -> anyhow::Result<()> {
    let table = &settings.source.table;
    let reference = self::reference(&reference);
    let filter = Filter { forwarder, reference: Some(reference.clone()), ..Filter::default() };
    let records = admin::list(connection, table, &filter, 1_000).await?;
    ensure!(!records.is_empty(), unknown(&reference));
    let mut row = admin::audit_row(connection, table, &reference).await?;
    if unmask {
        let (actor, filter) = (operator_log::operator(), format!("event {reference}"));
        let action = OperatorAction {
            actor: &actor,
            kind: ActionKind::Unmask,
            filter: &filter,
            count: 1,
            reason: None,
        };
        operator_log::record(connection, &action).await?;
    } else if let Some(row) = &mut row {
        admin::mask(row);
    }
    console::print(&if json {
        pretty(&serde_json::json!({ "failures": records, "audit_row": row }))?
    } else {
        render::details(&records, row.as_ref())?
    });
    Ok(())
}

/// That no forwarder has a failure of an event.
fn unknown(reference: &str) -> String {
    format!("there is no failure of {reference}")
}

fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
