//! What processes take while a sample runs, from `/proc`, and what PostgreSQL writes.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sandbox::process::children_of;
use sqlx::{Connection as _, PgConnection};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    environment::Environment,
    results::{Sample, Usage},
};

/// Linux counts processor time in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often PostgreSQL's memory is looked at; its processes come and go.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// Begun before a sample and read after it.
pub(crate) struct Meter {
    begun: Instant,
    /// Name, process, and what it had taken at the beginning.
    processes: Vec<(String, u32, f64)>,
    postgres: u32,
    postgres_url: String,
    wal: i64,
    peak_kib: Arc<AtomicU64>,
    _sampling: AbortOnDropHandle<()>,
}

impl Meter {
    /// Watches both servers and this process.
    pub(crate) async fn begin(environment: &Environment) -> anyhow::Result<Self> {
        let work_dir = environment.sandbox.work_dir.path();
        let pid = |file: &str| -> anyhow::Result<u32> {
            let text = fs::read_to_string(work_dir.join(file)).with_context(|| format!("no {file}"))?;
            Ok(text.lines().next().unwrap_or_default().trim().parse()?)
        };
        let (postgres, nats) = (pid("postgres/postmaster.pid")?, pid("nats.pid")?);
        let postgres_url = environment.sandbox.postgres.url("postgres");
        let peak_kib = Arc::<AtomicU64>::default();
        let sampling = tokio::spawn(sample_memory(postgres, peak_kib.clone()));
        let processes = [("postgres", postgres), ("nats-server", nats), ("bench", std::process::id())]
            .map(|(name, pid)| (name.to_owned(), pid, cpu_seconds(pid, name == "postgres")));
        Ok(Self {
            wal: wal_position(&postgres_url).await?,
            processes: processes.into(),
            postgres,
            postgres_url,
            peak_kib,
            _sampling: AbortOnDropHandle::new(sampling),
            begun: Instant::now(),
        })
    }

    /// Watches another process, which the sample has just started.
    pub(crate) fn watch(&mut self, name: &str, pid: u32) {
        self.processes.push((name.to_owned(), pid, 0.0));
    }

    /// Forgets what running processes have taken to come up; time begins now.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        for (name, pid, before) in &mut self.processes {
            *before = cpu_seconds(*pid, name == "postgres");
        }
        self.wal = wal_position(&self.postgres_url).await?;
        self.begun = Instant::now();
        Ok(())
    }

    /// What a watched process holds at this moment.
    pub(crate) fn resident_mib(&self, name: &str) -> f64 {
        let found = self.processes.iter().find(|(known, ..)| known == name);
        found.map_or(0.0, |(_, pid, _)| kib_to_mib(status_kib(*pid, "VmRSS:")))
    }

    /// Reads everything, while the processes still run.
    pub(crate) async fn end(self, case: &str, variant: &str, repeat: u32) -> anyhow::Result<Sample> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut processes = BTreeMap::<String, Usage>::new();
        for (name, pid, before) in &self.processes {
            let usage = processes.entry(name.clone()).or_default();
            usage.cpu_seconds += cpu_seconds(*pid, *pid == self.postgres) - before;
            let peak_kib = match *pid {
                pid if pid == self.postgres => self.peak_kib.load(Ordering::Relaxed),
                pid => status_kib(pid, "VmHWM:"),
            };
            usage.peak_mib = usage.peak_mib.max(kib_to_mib(peak_kib));
        }
        let written = wal_position(&self.postgres_url).await? - self.wal;
        Ok(Sample {
            case: case.to_owned(),
            variant: variant.to_owned(),
            repeat,
            seconds,
            processes,
            wal_bytes: Some(written.cast_unsigned()),
            ..Sample::default()
        })
    }
}

/// What a process has taken so far, for one that ends by itself; `None` when it has ended.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let peak_mib = kib_to_mib(status_kib(pid, "VmHWM:"));
    (peak_mib > 0.0).then(|| Usage { cpu_seconds: cpu_seconds(pid, false), peak_mib })
}

async fn wal_position(url: &str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let position = sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(position)
}

async fn sample_memory(postgres: u32, peak_kib: Arc<AtomicU64>) {
    loop {
        let all = std::iter::once(postgres).chain(children_of(postgres));
        peak_kib.fetch_max(all.map(|pid| status_kib(pid, "RssAnon:")).sum(), Ordering::Relaxed);
        tokio::time::sleep(MEMORY_EVERY).await;
    }
}

/// Processor time of a process; of PostgreSQL with that of its children, those that have ended included.
fn cpu_seconds(pid: u32, with_children: bool) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything. utime is the 12th field behind it, then stime, cutime, cstime.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace();
    let count = if with_children { 4 } else { 2 };
    let own: f64 = fields.skip(11).take(count).filter_map(|field| field.parse::<f64>().ok()).sum();
    let children = if with_children { children_of(pid) } else { Vec::new() };
    own / TICKS_PER_SECOND + children.into_iter().map(|child| cpu_seconds(child, false)).sum::<f64>()
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn kib_to_mib(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "memory sizes")]
    let kib = kib as f64;
    kib / 1024.0
}

/// Dead row versions in the tables of the outbox, counted row by row.
pub(crate) async fn outbox_dead_tuples(source: &str) -> anyhow::Result<u64> {
    let mut connection = PgConnection::connect(source).await?;
    sqlx::query("create extension if not exists pgstattuple").execute(&mut connection).await?;
    let dead: i64 = sqlx::query_scalar(
        "select sum((pgstattuple(t)).dead_tuple_count)::bigint
         from unnest(array['outbox.entries', 'outbox.rounds', 'outbox.failures']) t",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(dead.cast_unsigned())
}
