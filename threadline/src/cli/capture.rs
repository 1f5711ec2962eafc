//! `threadline capture off` and `on`: maintenance that is not recorded, and says so.

use clap::{Subcommand, builder::NonEmptyStringValueParser};
use threadline::{
    ActorRef,
    capture::HostTable,
    continuity::{SwitchError, disable_capture, enable_capture},
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    settings::{Settings, Target, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum CaptureCommand {
    /// Switches capture of tables off: what is written from then on is not recorded.
    Off {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Switches it on again, with every trigger as it was.
    On {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Arguments,
    },
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which tables, as NAME or SCHEMA.NAME.
    #[arg(long, required = true, value_delimiter = ',', value_name = "TABLES", value_parser = table)]
    tables: Vec<HostTable>,
    /// Who does it, such as admin:a1; the types are user, admin, `service_account`, job and system.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: ActorRef,
    /// Why.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

impl CaptureCommand {
    pub(crate) fn run(self) -> Result<Answer, Failure> {
        let (target, arguments, on) = match self {
            Self::Off { target, arguments } => (target, arguments, false),
            Self::On { target, arguments } => (target, arguments, true),
        };
        let Arguments { tables, actor, reason } = arguments;
        let Settings { options, schema, .. } = Settings::read(target)?;
        on_timeline(&options, Rights::Owner, async |connection| {
            let switched = if on {
                enable_capture(connection, &schema, &tables, &actor, &reason).await
            } else {
                disable_capture(connection, &schema, &tables, &actor, &reason).await
            };
            switched.map_err(|error| match error {
                SwitchError::Refused(refusal) => anyhow::Error::new(refusal),
                error => anyhow::Error::new(error).context("capture is as it was: cannot switch it"),
            })?;
            let state = if on { "on" } else { "off" };
            Ok(tables.iter().fold(String::new(), |text, table| text + &format!("capture {state}: {table}\n")))
        })
    }
}

/// TYPE:ID.
pub(crate) fn actor(text: &str) -> Result<ActorRef, String> {
    let (kind, id) = text.split_once(':').ok_or("expected TYPE:ID, such as admin:a1")?;
    let actor = kind.parse().and_then(|kind| ActorRef::new(kind, Some(id)));
    actor.map_err(|error| format!("{error}: expected TYPE:ID, such as admin:a1"))
}
