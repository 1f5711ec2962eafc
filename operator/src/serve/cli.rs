//! The command line.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use common::{
    process::console,
    service::{
        about::{AboutCommand, long_version},
        boot,
        help::Group,
    },
    settings::{ConfigCommand, Provenance, Settings, SettingsArgs},
};

use super::{configured, service::Service};
use crate::Policies;

/// Serves the audit timeline to people with a browser, until it is stopped (SIGINT, SIGTERM).
///
/// It reads the sections `[operator]` and `[threadline]` of audit.toml, `[capture]`, `[coverage]` and `[retention]` to compare them with what is deployed, and
/// `THREADLINE_DATABASE_URL`; the role `audit_reader` of deploy/postgres/timeline.sql
/// suffices. It has no login: operator.auth.kind says how it is found out who asks, and there is no default.
#[derive(Debug, Parser)]
#[command(
    name = "threadline-serve",
    version,
    long_version = long_version(env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"), env!("BUILD_FEATURES")),
    after_help = "Examples:\n  \
                  threadline-serve --set operator.auth.kind=none\n      \
                  On this machine only: whoever reaches http://127.0.0.1:4180/ sees everything.\n  \
                  threadline-serve --config /etc/threadline/audit.toml\n      \
                  Behind a proxy that passes on a token (operator.auth.kind = \"jwt\"), or an application that\n      \
                  signs a header (\"signed\"): docs/operator-hosts.md.\n\n\
                  Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How help lists the subcommands.
const GROUPS: &[Group] = &[("Settings and shell", &["config", "completions", "man"])];

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks or prints the settings, or writes a file to begin with.
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    About(AboutCommand),
}

/// The whole binary.
#[must_use]
pub fn main() -> ExitCode {
    let cli: Cli = match boot::parse(GROUPS) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let described = match &cli.command {
        Some(Command::Config(command)) => boot::init(command, &cli.settings),
        Some(Command::About(command)) => Some(command.run(Cli::command(), &cli.settings)),
        None => None,
    };
    if let Some(status) = described {
        return status;
    }
    boot::run(&cli.settings, |settings, provenance| async {
        let ended = Box::pin(dispatch(cli.command, settings, provenance, cli.settings.text())).await;
        ended.map_err(Into::into)
    })
}

async fn dispatch(
    command: Option<Command>,
    settings: Settings,
    provenance: Provenance,
    text: Option<&str>,
) -> Result<(), common::service::ServiceError> {
    match command {
        Some(Command::Config(command)) => {
            if matches!(command, ConfigCommand::Check { .. }) {
                Service::new(settings.clone()).policies(configured(text)?).check()?;
            }
            console::print(&command.answer(&settings, &provenance));
            Ok(())
        }
        Some(Command::About(_)) => Ok(()),
        None => {
            let policies = configured(text)?;
            let service =
                |metrics, shutdown| Service::new(settings).policies(policies).metrics(metrics).run(shutdown);
            Box::pin(boot::serve(service)).await
        }
    }
}

fn configured(text: Option<&str>) -> Result<Option<Policies>, common::service::ServiceError> {
    Ok(text.map(configured::read).transpose()?.flatten())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use common::service::help::assert_grouped;

    #[test]
    fn the_command_line_is_sound_and_help_lists_every_command() {
        super::Cli::command().debug_assert();
        assert_grouped(&super::Cli::command(), super::GROUPS);
    }
}
