//! `sandbox`: private servers, a workload, and the demo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use common::{identifier::TableName, process::console, service::boot};
use sandbox::{
    Options, Sandbox, audit,
    demo::{self, Demo},
    load::{Load, LoadCounter},
};
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

/// Private PostgreSQL and NATS servers from installed binaries, for trying things out. Not for production.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts both servers, prints how to connect, and stops them at Ctrl-C.
    Up,
    /// Runs the whole pipeline against a realistic workload and ends with a verdict from both databases.
    Demo(Demo),
    /// Writes a realistic workload into an audit table.
    Load {
        /// Connection URL of the source database.
        #[arg(long, env = "SOURCE_DATABASE_URL", hide_env_values = true)]
        url: String,
        /// The audit table.
        #[arg(long, default_value = "public.audit_events")]
        table: TableName,
        /// How many transactions.
        #[arg(long, default_value_t = 10_000)]
        transactions: u64,
        /// Connections that write at the same time.
        #[arg(long, default_value_t = 8)]
        writers: u32,
        /// Transactions a second; without it as fast as the writers can.
        #[arg(long)]
        rate: Option<u32>,
        /// The same seed writes the same rows.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Creates the table first, as Sigra's installer would.
        #[arg(long)]
        create: bool,
    },
}

fn main() -> ExitCode {
    let cli: Cli = match boot::parse(&[]) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    boot::ended(result.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace), true)
}

async fn run(command: Command) -> anyhow::Result<()> {
    let stop = common::process::shutdown::on_signal()?;
    match command {
        Command::Up => up(&stop).await,
        Command::Demo(demo) => Box::pin(demo::run(&demo, &stop)).await,
        Command::Load { url, table, transactions, writers, rate, seed, create } => {
            if create {
                audit::install(&mut PgConnection::connect(&url).await?, table.schema()).await?;
            }
            let hold_max = std::time::Duration::from_secs(30);
            let load = Load { url, table, writers, rate, seed, hold_max };
            let counter = LoadCounter::default();
            load.run(transactions, &counter, &stop).await?;
            let (committed, rolled_back) = (counter.committed(), counter.rolled_back());
            console::print(&format!("{committed} rows committed, {rolled_back} rolled back\n"));
            Ok(())
        }
    }
}

async fn up(stop: &CancellationToken) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(&Options { durable: true, honour_urls: false, ..Options::default() })?;
    console::print(&format!(
        "export SOURCE_DATABASE_URL={0}\nexport THREADLINE_DATABASE_URL={0}\nexport NATS_URL={1}\n# Ctrl-C stops both.\n",
        sandbox.postgres.url("postgres"),
        sandbox.nats.url()
    ));
    stop.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
