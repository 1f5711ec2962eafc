//! An erasure: pass by pass, step by step, batch by batch.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

use super::{
    counts::Counts,
    error::ErasureError,
    plan::{Plan, Target, reader},
    record::{LEASE, Position, Run},
    request::{Erasure, ErasureOptions},
    scrub::{Part, Visited},
    step::Step,
};
use crate::{
    Timeline,
    batches::{self, LOCKED_PAUSE, Stop, settle},
    lease::Lease,
    query::{Statement, limit_time},
    telemetry::{
        erasure::{self as events, Scrubbed},
        milliseconds,
    },
};

/// How often everything is visited at most: what is committed meanwhile is found by the next pass.
pub const PASSES_MAX: u64 = 3;

/// What was erased, or, of a dry run, what would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are said to whoever asked, independent of each other"
)]
pub struct Erased {
    /// The run; none of a dry run.
    pub run: Option<Uuid>,
    /// Nothing was erased.
    pub dry_run: bool,
    /// The run was begun before, and was gone on with; the counts are of all of it.
    pub is_resumed: bool,
    /// How much.
    #[serde(flatten)]
    pub counts: Counts,
    /// How often everything was visited.
    pub passes: u64,
    /// Whether the last pass found nothing new, and every key was followed. Otherwise there are more keys, or somebody goes on writing such rows:
    /// the same command erases these.
    pub is_complete: bool,
    /// The key of the row was changed more often than was followed: erase the row under its other keys too.
    pub has_more_keys: bool,
    /// Exports that were recorded as handed over: each may hold what was erased. None where the role may not see them.
    pub exports: Option<i64>,
    /// Files that purges have archived: the same of them.
    pub archives: Option<i64>,
    /// Purges that are on, or were interrupted: a file that one archives to is recorded once it is whole, and may hold the same.
    pub purges: Option<i64>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl Erased {
    fn new(run: Option<&Run>) -> Self {
        Self {
            run: run.map(|run| run.id),
            dry_run: run.is_none(),
            is_resumed: run.is_some_and(|run| run.is_resumed),
            counts: Counts::default(),
            passes: 0,
            is_complete: true,
            has_more_keys: false,
            exports: None,
            archives: None,
            purges: None,
            duration_ms: 0,
        }
    }
}

impl Timeline {
    /// Erases values of a row, an actor or a person, in short transactions with pauses between them. Rows stay, and so do the hashes that
    /// receipts are made of.
    ///
    /// # Errors
    /// Where it is refused, another process erases, or the database refuses or is away. What was erased stays erased, the run is recorded
    /// as failed, and the same call goes on with it.
    pub async fn erase(&self, erasure: &Erasure, options: &ErasureOptions) -> Result<Erased, ErasureError> {
        Box::pin(self.erase_until(erasure, options, std::future::pending(), |_| ())).await
    }

    /// The same, until `stop` ends: the batch is finished, and the run has failed with [`ErasureError::Cancelled`]. `progress` has what was
    /// erased so far.
    ///
    /// # Errors
    /// As [`Self::erase`].
    pub async fn erase_until(
        &self,
        erasure: &Erasure,
        options: &ErasureOptions,
        stop: impl Future<Output = ()>,
        mut progress: impl FnMut(&Counts),
    ) -> Result<Erased, ErasureError> {
        erasure.check(options)?;
        let target = Target::find(&reader(self), erasure).await?;
        if options.dry_run {
            return with_events(erasure, true, Box::pin(self.count(erasure, &target, options))).await;
        }
        let run = self.begin_erasure(erasure, &target, options).await?;
        let (stopped, stop_asked) = Stop::new();
        let work = Work { timeline: self, erasure, target, options, run, stop: stop_asked };
        let mut work = pin!(with_events(erasure, false, work.work(&mut progress)));
        tokio::select! {
            done = &mut work => return done,
            () = stop => {}
        }
        stopped.send_replace(true);
        work.await
    }

    /// Whoever erases renews its lease while it does so: that is not waited for.
    async fn begin_erasure(
        &self,
        erasure: &Erasure,
        target: &Target,
        options: &ErasureOptions,
    ) -> Result<Run, ErasureError> {
        let begun = async {
            let mut transaction = batches::begin(self.pool(), options.lock_timeout).await?;
            let (subject, policy) = (target.canonical(erasure), erasure.policy(target.table().as_deref()));
            let of = (subject.as_str(), &policy);
            let run = Run::begin(&mut transaction, self.schema(), erasure.kind(), of, options).await?;
            transaction.commit().await?;
            Ok(run)
        };
        match begun.await {
            Err(error) if ErasureError::is_busy(&error) => {
                let mut transaction = self.pool().begin().await?;
                let holder = Lease::new(LEASE).other(&mut transaction, self.schema()).await?;
                let locked = ErasureError::Locked { table: "threadline_leases", limit: options.lock_timeout };
                Err(holder.map_or(locked, ErasureError::from))
            }
            begun => begun,
        }
    }

    /// What a run would erase, in one state of the timeline, by the same statements.
    async fn count(
        &self,
        erasure: &Erasure,
        target: &Target,
        options: &ErasureOptions,
    ) -> Result<Erased, ErasureError> {
        let started = Instant::now();
        let time = options.dry_run_time;
        let plan = Plan::of(self, erasure, target, Uuid::nil(), time).await?;
        let begin = "begin transaction isolation level repeatable read, read only";
        let mut transaction = self.pool().begin_with(begin).await?;
        settle(&mut transaction, options.lock_timeout).await?;
        limit_time(&mut transaction, time).await?;
        let mut erased = Erased::new(None);
        for step in &plan.steps {
            let part =
                Part { run: Uuid::nil(), after: None, begun: &plan.begun, limit: i64::MAX, writes: false };
            let statement = step.statement(&reader(self), part);
            let row = statement.query().fetch_one(&mut *transaction).await?;
            erased.counts += step.visited(&row)?.erased;
        }
        transaction.rollback().await?;
        (erased.has_more_keys, erased.is_complete) = (plan.has_more_keys, !plan.has_more_keys);
        self.count_copies(&mut erased).await;
        erased.duration_ms = milliseconds(started.elapsed());
        Ok(erased)
    }

    /// Counts what may hold it besides.
    async fn count_copies(&self, erased: &mut Erased) {
        // Before archives: what a purge has made that has ended meanwhile is recorded.
        erased.purges = self.purges().await;
        (erased.exports, erased.archives) = (self.exports().await, self.archives().await);
    }

    /// A purge gives its lease back when it ends.
    async fn purges(&self) -> Option<i64> {
        let leases = self.schema().table("threadline_leases");
        let mut statement = Statement::new(format!("select count(*) from {leases} l where l.name = "));
        statement.bind(crate::retention::LEASE);
        self.number(&statement).await
    }

    /// Exports that were recorded.
    async fn exports(&self) -> Option<i64> {
        let mut statement = Statement::new(format!(
            "select count(*) from {} r where r.subject = ",
            self.schema().table("threadline_evidence_records")
        ));
        statement.bind(crate::evidence::Subject::ExportDelivery.as_str());
        self.number(&statement).await
    }

    /// Archives that were made.
    async fn archives(&self) -> Option<i64> {
        let table = self.schema().table("threadline_archives");
        self.number(&Statement::new(format!("select count(r.id) from {table} r"))).await
    }

    async fn number(&self, statement: &Statement) -> Option<i64> {
        let mut transaction = self.pool().begin().await.ok()?;
        let row = statement.query().fetch_one(&mut *transaction).await.ok()?;
        transaction.rollback().await.ok()?;
        row.try_get(0).ok()
    }
}

/// What a writer has changed meanwhile is visited again.
const ERASING: &str = "begin transaction isolation level repeatable read, read write";

struct Work<'w> {
    timeline: &'w Timeline,
    erasure: &'w Erasure,
    target: Target,
    options: &'w ErasureOptions,
    run: Run,
    stop: Stop,
}

impl Work<'_> {
    /// Erases, and records how it ended; over another connection where one was lost.
    async fn work(mut self, progress: &mut impl FnMut(&Counts)) -> Result<Erased, ErasureError> {
        let started = Instant::now();
        let mut erased = Erased::new(Some(&self.run));
        let done = self.passes(&mut erased, progress).await;
        let failure = done.as_ref().err().map(ErasureError::recorded);
        let ended = self.end(failure.as_deref()).await;
        done?;
        ended?;
        erased.counts = self.run.counts.clone();
        self.timeline.count_copies(&mut erased).await;
        erased.duration_ms = milliseconds(started.elapsed());
        Ok(erased)
    }

    async fn end(&self, failure: Option<&str>) -> Result<(), ErasureError> {
        let mut transaction = batches::begin(self.timeline.pool(), self.options.locked_limit).await?;
        self.run.end(&mut transaction, self.timeline.schema(), failure, self.options).await?;
        Ok(transaction.commit().await?)
    }

    /// Until a pass finds nothing.
    async fn passes(
        &mut self,
        erased: &mut Erased,
        progress: &mut impl FnMut(&Counts),
    ) -> Result<(), ErasureError> {
        // A run that goes on has as many passes as one that begins.
        let last = self.run.position.passes + PASSES_MAX;
        loop {
            // One that another process began may have been planned before some rows were there.
            let Position { step, after, .. } = &self.run.position;
            let is_whole = *step == 0 && after.is_none();
            self.pass(progress).await?;
            let Position { passes, found, has_more_keys, .. } = self.run.position;
            self.run.position = Position { passes: passes + 1, has_more_keys, ..Position::default() };
            erased.passes += 1;
            erased.has_more_keys = has_more_keys;
            let is_end = found == 0 && is_whole;
            erased.is_complete = is_end && !has_more_keys;
            if is_end || self.run.position.passes >= last {
                return Ok(());
            }
        }
    }

    /// One pass, from where it was left.
    async fn pass(&mut self, progress: &mut impl FnMut(&Counts)) -> Result<(), ErasureError> {
        let plan = self.plan().await?;
        let steps = plan.steps.len() as u64;
        // Where the key has gone, the next pass finds none of the others: what one has said stays.
        self.run.position.has_more_keys |= plan.has_more_keys;
        if self.run.position.steps != steps {
            let Position { passes, found, has_more_keys, .. } = self.run.position;
            self.run.position = Position { passes, steps, found, has_more_keys, ..Position::default() };
        }
        let done = usize::try_from(self.run.position.step).unwrap_or(usize::MAX);
        for step in plan.steps.iter().skip(done) {
            loop {
                if self.stop.is_asked_for() {
                    return Err(ErasureError::Cancelled);
                }
                let (visited, took) = self.batch(step, &plan.begun).await?;
                let rows = visited.erased.total_rows();
                if rows > 0 {
                    events::batch_erased(scrubbed(&visited.erased), took);
                    progress(&self.run.counts);
                }
                self.stop.pause(self.options.pause(took, rows > 0)).await;
                if step.is_end(&visited, self.options.batch_size) {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn plan(&mut self) -> Result<Plan, ErasureError> {
        let started = Instant::now();
        loop {
            // A statement of it has as much time as one of a batch.
            let time = Duration::from_secs(15);
            let planned = Plan::of(self.timeline, self.erasure, &self.target, self.run.id, time).await;
            match planned {
                Ok(plan) => return Ok(plan),
                Err(error) => self.wait("audit_changes", error, started).await?,
            }
        }
    }

    /// One batch, and how long it took.
    async fn batch(&mut self, step: &Step, begun: &str) -> Result<(Visited, Duration), ErasureError> {
        let started = Instant::now();
        loop {
            let attempted = Instant::now();
            match self.attempt(step, begun).await {
                Ok((visited, counts, position)) => {
                    (self.run.counts, self.run.position) = (counts, position);
                    return Ok((visited, attempted.elapsed()));
                }
                Err(error) => self.wait(step.table(), error, started).await?,
            }
        }
    }

    /// The next rows of a step, as one transaction that also renews the lease and records how far the run is.
    async fn attempt(&self, step: &Step, begun: &str) -> Result<(Visited, Counts, Position), ErasureError> {
        let storage = self.timeline.schema();
        let mut transaction = self.timeline.pool().begin_with(ERASING).await?;
        settle(&mut transaction, self.options.lock_timeout).await?;
        // First of all: whoever has lost the lease erases nothing.
        self.run.lease.renew(&mut transaction, storage).await?.ok_or(ErasureError::LeaseLost)?;
        let position = &self.run.position;
        let limit = i64::from(self.options.batch_size);
        let part = Part { run: self.run.id, after: position.after.as_ref(), begun, limit, writes: true };
        let statement = step.statement(&reader(self.timeline), part);
        let row = statement.query().fetch_one(&mut *transaction).await?;
        let visited = step.visited(&row)?;
        let mut counts = self.run.counts.clone();
        counts += visited.erased.clone();
        let is_end = step.is_end(&visited, self.options.batch_size);
        let position = Position {
            step: position.step + u64::from(is_end),
            after: if is_end { None } else { visited.last.clone() },
            found: position.found + visited.erased.total_rows(),
            ..position.clone()
        };
        self.run.renew(&mut transaction, storage, &counts, &position).await?;
        transaction.commit().await?;
        Ok((visited, counts, position))
    }

    /// Waits for another attempt, where somebody holds a lock or has changed a row meanwhile, and it was not tried for too long already.
    async fn wait(
        &mut self,
        table: &'static str,
        error: ErasureError,
        since: Instant,
    ) -> Result<(), ErasureError> {
        if !error.is_busy() {
            return Err(error);
        }
        if since.elapsed() >= self.options.locked_limit {
            return Err(ErasureError::Locked { table, limit: self.options.locked_limit });
        }
        events::waits(table, error.kind());
        self.stop.pause(LOCKED_PAUSE).await;
        if self.stop.is_asked_for() { Err(ErasureError::Cancelled) } else { Ok(()) }
    }
}

/// Says how the work goes, without a value of a row and without whom it is about.
async fn with_events(
    erasure: &Erasure,
    dry_run: bool,
    work: impl Future<Output = Result<Erased, ErasureError>>,
) -> Result<Erased, ErasureError> {
    let kind = erasure.kind();
    events::started(kind, dry_run);
    let started = Instant::now();
    let done = work.await;
    match &done {
        Ok(erased) => events::stopped(kind, scrubbed(&erased.counts), started.elapsed(), dry_run),
        Err(error) => events::failed(kind, error.kind(), started.elapsed(), dry_run),
    }
    done
}

fn scrubbed(counts: &Counts) -> Scrubbed {
    Scrubbed { rows: counts.total_rows(), values: counts.total_values() }
}
