//! `bench`: the pipeline beside its limits and beside what a user would pick instead, in one run on one machine.

mod forward;
mod peers;
#[allow(dead_code, reason = "no case is measured yet")]
mod results;

use clap::{Args, Parser, Subcommand};

use crate::peers::Peer;

/// Measures the pipeline beside its limits and beside what a user would pick instead.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Works as one of the peers until SIGINT or SIGTERM.
    #[command(hide = true)]
    Peer(PeerArguments),
}

#[derive(Debug, Args)]
struct PeerArguments {
    /// Which.
    peer: Peer,
    /// The database that holds the audit rows and the peer's tables.
    #[arg(long)]
    source: String,
    /// The database that holds the timeline.
    #[arg(long)]
    timeline: String,
    /// Make the peer's tables, fill its queue and attach its trigger first.
    #[arg(long)]
    fill: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    common::telemetry::init_logs(&common::settings::LogSettings::default())?;
    match Cli::parse().command {
        Command::Peer(arguments) => Box::pin(work(&arguments)).await,
    }
}

async fn work(arguments: &PeerArguments) -> anyhow::Result<()> {
    let PeerArguments { peer, source, timeline, fill } = arguments;
    let (name, batches, lacks) = (peer.name(), peer.batches(), peer.lacks());
    tracing::info!(name, batches, lacks, "working");
    if *fill {
        peer.prepare(source).await?;
        let jobs = peer.enqueue_all(source).await?;
        peer.attach(source).await?;
        tracing::info!(jobs, "filled");
    }
    peer.work(source, timeline, common::shutdown::on_signal()?).await?;
    tracing::info!(dead_tuples = peer.dead_tuples(source).await?, "stopped");
    Ok(())
}
