//! The demo: the whole pipeline as an operator would run it, under a realistic workload, judged from both databases.

use std::{
    fs,
    io::IsTerminal as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use clap::Args;
use common::{identifier::TableName, process::console};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::{Connection as _, Executor as _, PgConnection};
use threadline::StorageSchema;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Options, Sandbox, audit,
    audit::AuditRow,
    fixture, golden, history,
    load::{Load, LoadCounter},
    process::{self, Process},
    tour::Tour,
    verdict::Verdict,
    wait,
    work_dir::free_port,
};

/// How long the pipeline may take to drain after the last commit.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);

/// How long the pages may take to be there.
const SERVE_DEADLINE: Duration = Duration::from_secs(30);

const CONSUMERS: usize = 2;

/// Longer ones would only make the demo longer; one transaction stays open throughout anyway.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// What to play.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How many transactions.
    #[arg(long, default_value_t = 20_000, env = "DEMO_TRANSACTIONS")]
    transactions: u64,
    /// Transactions a second.
    #[arg(long, default_value_t = 1_000, env = "DEMO_RATE")]
    rate: u32,
    /// Leaves everything running after the verdict, until Ctrl-C.
    #[arg(long, env = "DEMO_KEEP", value_parser = clap::builder::FalseyValueParser::new())]
    keep: bool,
}

/// Runs it. Everything that was started is stopped again.
///
/// # Errors
/// When something does not start, and when the verdict is not clean.
pub async fn run(demo: &Demo, stop: &CancellationToken) -> anyhow::Result<()> {
    print_line("starting PostgreSQL and NATS");
    let sandbox = Sandbox::start(&Options { durable: true, honour_urls: true, ..Options::default() })?;
    let mut environment = DemoEnvironment::set_up(sandbox).await?;
    let result = tokio::select! {
        result = run_workload(demo, &environment) => result,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    let result = match result {
        Ok(()) if demo.keep => keep(&mut environment, stop).await,
        result => result,
    };
    let torn_down = environment.tear_down().await;
    result.and(torn_down)
}

/// Leaves everything running, with more to look at than a workload.
async fn keep(environment: &mut DemoEnvironment, stop: &CancellationToken) -> anyhow::Result<()> {
    print_line("a shop with days of history; events that cannot be delivered; a transaction that stays open");
    history::create_tables(&environment.timeline).await?;
    environment.command("threadline", &["gen-triggers", "--apply"])?;
    history::play(&environment.timeline).await?;
    let table = fixture::audit_events();
    history::fail(&environment.source, &table, &environment.timeline).await?;
    let mut holder = PgConnection::connect(&environment.source).await?;
    hold(&mut holder, &table).await?;
    let pages = environment.serve()?;
    print_line(&environment.tour(&pages)?);
    stop.cancelled().await;
    Ok(holder.close().await?)
}

/// The servers, the databases, and the settings of the processes.
struct DemoEnvironment {
    // Dropped before the servers and the folder. The first is the publisher, then come the consumers, and the pages where there are any.
    processes: Vec<Process>,
    sandbox: Sandbox,
    suffix: String,
    source: String,
    timeline: String,
}

impl DemoEnvironment {
    async fn set_up(sandbox: Sandbox) -> anyhow::Result<Self> {
        // On given servers nobody else's databases and streams may be touched.
        let private = sandbox.postgres.is_private() && sandbox.nats.is_private();
        let suffix = if private { String::new() } else { format!("_{}", Uuid::new_v4().simple()) };
        let source = sandbox.postgres.create_database(&format!("demo_source{suffix}"), None).await?;
        let timeline = sandbox.timeline().create_database(&format!("demo_timeline{suffix}"), None).await?;
        let mut environment = Self { sandbox, suffix, source, timeline, processes: Vec::new() };
        fs::write(environment.sandbox.work_dir.path().join("audit.toml"), environment.settings())?;

        print_line("creating audit_events; then: threadline install, publisher attach");
        let mut connection = PgConnection::connect(&environment.source).await?;
        audit::install(&mut connection, "public").await?;
        connection.close().await?;
        environment.command("threadline", &["install"])?;
        environment.command("publisher", &["attach"])?;

        print_line(&format!("starting: publisher run, {CONSUMERS} × consumer run"));
        environment.start("publisher", "publisher")?;
        for number in 1..=CONSUMERS {
            environment.start(&format!("consumer-{number}"), "consumer")?;
        }
        Ok(environment)
    }

    fn settings(&self) -> String {
        let name = format!("SIGRA_AUDIT{}", self.suffix);
        let subject = format!("sigra.audit.events{}", self.suffix);
        format!(
            "[broker]\nstream = \"{name}\"\nsubject = \"{subject}\"\n\
             [publisher]\nlisten = \"127.0.0.1:0\"\n[consumer]\nlisten = \"127.0.0.1:0\"\n{}",
            history::SETTINGS
        )
    }

    fn environment(&self) -> [(&str, &str); 3] {
        [
            ("SOURCE_DATABASE_URL", &self.source),
            ("THREADLINE_DATABASE_URL", &self.timeline),
            ("NATS_URL", self.sandbox.nats.url()),
        ]
    }

    fn command(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let (status, said) =
            process::run(binary, arguments, &self.environment(), self.sandbox.work_dir.path())?;
        ensure!(status.success(), "{binary} {} failed:\n{said}", arguments.join(" "));
        Ok(())
    }

    fn start(&mut self, name: &str, binary: &str) -> anyhow::Result<()> {
        let process = Process::start(&self.sandbox.work_dir, name, binary, &["run"], &self.environment())?;
        self.processes.push(process);
        Ok(())
    }

    /// Starts the pages of the timeline, and what makes their exports; returns where they are.
    fn serve(&mut self) -> anyhow::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let listen = format!("operator.listen={address}");
        let work_dir = &self.sandbox.work_dir;
        let exports = work_dir.path().join("exports");
        fs::create_dir(&exports)?;
        let directory = format!("operator.exports_directory={}", exports.display());
        let arguments = ["--set", &listen, "--set", &directory];
        let writing = [
            ("AUDIT__OPERATOR__WRITER_URL", &*self.timeline),
            ("AUDIT__OPERATOR__REDRIVE_URL", &*self.source),
        ];
        let environment: Vec<_> = self.environment().into_iter().chain(writing).collect();
        let process = Process::start(work_dir, "serve", "threadline-serve", &arguments, &environment)?;
        wait::until("the pages of the timeline", SERVE_DEADLINE, || TcpStream::connect(address).is_ok())
            .with_context(|| format!("their log says:\n{}", process.log()))?;
        self.processes.push(process);
        let allowed = format!("file://{}", exports.display());
        let arguments = ["export", "jobs", "work", "--allow", &allowed];
        let worker =
            Process::start(&self.sandbox.work_dir, "exports", "threadline", &arguments, &self.environment())?;
        self.processes.push(worker);
        Ok(format!("http://{address}/"))
    }

    fn tour(&self, pages: &str) -> anyhow::Result<String> {
        let ours = std::env::current_exe()?;
        let binaries = ours.parent().into_iter().chain(self.sandbox.postgres.binaries());
        let event = golden::rows().first().context("the golden fixture has rows")?.id;
        let tour = Tour {
            folder: self.sandbox.work_dir.path(),
            binaries: binaries.collect(),
            environment: &self.environment(),
            event,
            consumers: self.processes.iter().skip(1).take(CONSUMERS).map(Process::id).collect(),
            pages,
        };
        Ok(tour.text())
    }

    /// Stops the processes gracefully, and removes what was made on given servers.
    async fn tear_down(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            let _ = process.terminate(Duration::from_secs(30));
        }
        if !self.sandbox.postgres.is_private() {
            self.sandbox.postgres.drop_database(&format!("demo_source{}", self.suffix)).await?;
        }
        if !self.sandbox.timeline().is_private() {
            self.sandbox.timeline().drop_database(&format!("demo_timeline{}", self.suffix)).await?;
        }
        if !self.sandbox.nats.is_private() {
            let context = jetstream::new(async_nats::connect(self.sandbox.nats.url()).await?);
            context.delete_stream(format!("SIGRA_AUDIT{}", self.suffix)).await?;
        }
        Ok(())
    }
}

async fn run_workload(demo: &Demo, environment: &DemoEnvironment) -> anyhow::Result<()> {
    let table = fixture::audit_events();
    let mut connection = PgConnection::connect(&environment.source).await?;
    audit::insert_organizations(&mut connection, &table, &golden::ORGANIZATIONS).await?;
    audit::insert(&mut connection, &table, &golden::rows()).await?;

    let mut meter = Meter::new(environment, demo.transactions).await?;
    meter.await_projected(golden::rows().len(), 0).await.context("the golden fixture")?;
    let (ok, error) = meter.statuses().await?;
    print_line(&format!("golden fixture: {ok} ok / {error} error"));
    ensure!((ok, error) == (36, 7), "the golden fixture must project to 36 ok / 7 error");

    let mut holder = PgConnection::connect(&environment.source).await?;
    let held = hold(&mut holder, &table).await?;
    print_line(&format!(
        "playing {} transactions at {}/s, with roll-backs; one transaction stays open throughout",
        demo.transactions, demo.rate
    ));
    let load = Load {
        url: environment.source.clone(),
        table: table.clone(),
        writers: 8,
        rate: Some(demo.rate),
        seed: 1,
        hold_max: HOLD_MAX,
    };
    let counter = LoadCounter::default();
    let started = Instant::now();
    let never = CancellationToken::new();
    let mut playing = std::pin::pin!(load.run(demo.transactions, &counter, &never));
    let written = loop {
        tokio::select! {
            written = &mut playing => break written?,
            () = tokio::time::sleep(Meter::INTERVAL) => meter.show(counter.committed()).await?,
        }
    };
    let played = started.elapsed();
    let others = golden::rows().len() + written.committed.len();
    meter.await_projected(others, counter.committed()).await.context("draining")?;
    print_line(&format!(
        "{} rows committed ({} rolled back) in {:.1} s; all arrived while one transaction was still open",
        written.committed.len(),
        written.rolled_back.len(),
        played.as_secs_f64()
    ));
    holder.execute("commit").await?;
    meter
        .await_projected(others + held, counter.committed())
        .await
        .context("the rows of the transaction held open")?;
    meter.finish();

    let verdict =
        Verdict::compute(&environment.source, &table, &environment.timeline, &StorageSchema::default())
            .await?;
    print_line(&format!("{verdict}; {:.0} rows/s", per_second(written.committed.len(), played)));
    ensure!(verdict.holds(), "the timeline does not equal the source");
    Ok(())
}

/// Inserts rows into a transaction that stays open; returns how many.
async fn hold(holder: &mut PgConnection, table: &TableName) -> anyhow::Result<usize> {
    let rows = ["demo.held_open.first", "demo.held_open.second"].map(AuditRow::sample);
    holder.execute("begin").await?;
    audit::insert(holder, table, &rows).await?;
    Ok(rows.len())
}

/// The status line: a live one on a terminal, a line every other second elsewhere.
struct Meter {
    bar: ProgressBar,
    live: bool,
    shown: Instant,
    timeline: PgConnection,
    stream: jetstream::stream::Stream,
    last: (Instant, usize),
}

impl Meter {
    const INTERVAL: Duration = Duration::from_millis(200);
    const LINE_INTERVAL: Duration = Duration::from_secs(2);

    async fn new(environment: &DemoEnvironment, transactions: u64) -> anyhow::Result<Self> {
        let live = std::io::stderr().is_terminal();
        let bar = if live { ProgressBar::new(transactions) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:20} {msg}")?);
        let context = jetstream::new(async_nats::connect(environment.sandbox.nats.url()).await?);
        let name = format!("SIGRA_AUDIT{}", environment.suffix);
        let stream = wait::until_some("the publisher to create the stream", DRAIN_DEADLINE, async || {
            Ok(context.get_stream(&name).await.ok())
        })
        .await?;
        let timeline = PgConnection::connect(&environment.timeline).await?;
        Ok(Self { bar, live, shown: Instant::now(), timeline, stream, last: (Instant::now(), 0) })
    }

    async fn projected(&mut self) -> anyhow::Result<usize> {
        let count: i64 =
            sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut self.timeline).await?;
        Ok(usize::try_from(count)?)
    }

    async fn statuses(&mut self) -> anyhow::Result<(i64, i64)> {
        let counts = "select count(*) filter (where status = 'ok'), count(*) filter (where status = 'error')
                      from audit_actions";
        Ok(sqlx::query_as(counts).fetch_one(&mut self.timeline).await?)
    }

    async fn show(&mut self, committed: u64) -> anyhow::Result<()> {
        let projected = self.projected().await?;
        let published = self.stream.get_info().await?.state.last_sequence;
        let (at, before) = std::mem::replace(&mut self.last, (Instant::now(), projected));
        let rate = per_second(projected.saturating_sub(before), at.elapsed());
        let committed = committed + golden::rows().len() as u64;
        let lag = committed.saturating_sub(projected as u64);
        let line = format!(
            "committed {committed}  published {published}  projected {projected}  lag {lag}  {rate:.0} rows/s"
        );
        self.bar.set_position(committed);
        self.bar.set_message(line.clone());
        if !self.live && self.shown.elapsed() >= Self::LINE_INTERVAL {
            self.shown = Instant::now();
            print_line(&line);
        }
        Ok(())
    }

    async fn await_projected(&mut self, rows: usize, committed: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.projected().await? < rows {
            ensure!(
                started.elapsed() < DRAIN_DEADLINE,
                "the timeline did not fill within {DRAIN_DEADLINE:?}"
            );
            self.show(committed).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
fn per_second(rows: usize, elapsed: Duration) -> f64 {
    rows as f64 / elapsed.as_secs_f64()
}

fn print_line(text: &str) {
    console::print(&format!("{text}\n"));
}
