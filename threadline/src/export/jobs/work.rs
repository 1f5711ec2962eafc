//! One job, from taking it to its end.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    JobError,
    claim::{self, Claim, Delivered, End},
    get,
    steps::Steps,
    worker::Worker,
};
use crate::{
    lease,
    telemetry::{
        self,
        jobs::{self as events, Attempt},
    },
};

/// How often a job is tried.
pub const ATTEMPTS_MAX: u8 = 5;

/// How often a lease is renewed: whoever has a job that was cancelled stops within that time.
const RENEWAL: Duration = Duration::from_secs(5);

/// How long a renewal may take.
const RENEWAL_TIME: Duration = Duration::from_secs(15);

/// A lease that has not been renewed for so long is taken for lost, before others take the job.
const BELIEVED: Duration = lease::LENGTH.saturating_sub(Duration::from_secs(10));

/// The pause behind the first attempt; it doubles with each one.
const PAUSE: Duration = Duration::from_secs(10);

/// How often, and after which pause, the end of a job is said again to a database that was away.
const SAID: u32 = 5;
const SAID_AFTER: Duration = Duration::from_secs(2);

/// What became of a job that a worker had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Which job.
    pub job: Uuid,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is stored.
    Completed {
        /// Where.
        location: String,
        /// Entries.
        rows: u64,
        /// Bytes.
        bytes: u64,
    },
    /// There is none.
    Failed {
        /// A term and words.
        error: String,
    },
    /// It is tried again later.
    PutOff {
        /// A term and words.
        error: String,
    },
    /// It was cancelled, or another worker has it.
    Lost,
    /// The worker was stopped, and the next one goes on.
    GivenBack,
}

enum Worked {
    Stopped,
    Lost,
    Done(Result<Option<Delivered>, JobError>),
}

impl Worker {
    /// Takes the next job that is due, or the one that is named if it is, and carries it out; none if there is none. When `shutdown` ends, the job
    /// is given back, and the next worker goes on with what is there.
    ///
    /// # Errors
    /// What the database says. An export that fails is no error: its job says so.
    pub async fn work_one(
        &self,
        only: Option<Uuid>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Option<Ended>, JobError> {
        claim::give_up(self.timeline(), self.keep()).await?;
        let Some(claim) = claim::take(self.timeline(), self.holder(), only).await? else { return Ok(None) };
        let (job, attempt) = (claim.id, claim.attempts);
        let at = Attempt { job, attempt };
        events::taken(at);
        let started = Instant::now();
        let outcome = self.carry_out(&claim, shutdown).await?;
        let took = started.elapsed();
        match &outcome {
            Outcome::Completed { rows, bytes, .. } => events::completed(at, *rows, *bytes, took),
            // Said where the error is known.
            Outcome::Failed { .. } | Outcome::PutOff { .. } => {}
            Outcome::Lost => events::lost(at, took),
            Outcome::GivenBack => events::given_back(at, took),
        }
        Ok(Some(Ended { job, outcome }))
    }

    async fn carry_out(
        &self,
        claim: &Claim,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Outcome, JobError> {
        let steps = match Steps::of(self, claim) {
            Ok(steps) => steps,
            Err(error) => return self.failed(claim, None, &error).await,
        };
        let worked = tokio::select! {
            biased;
            () = shutdown => Worked::Stopped,
            () = self.until_lost(claim) => Worked::Lost,
            done = Box::pin(steps.carry_out()) => Worked::Done(done),
        };
        match worked {
            Worked::Stopped => {
                let is_ours = self.said(claim, End::GiveBack).await?;
                Ok(if is_ours { Outcome::GivenBack } else { Outcome::Lost })
            }
            Worked::Lost | Worked::Done(Ok(None)) => self.lost(&steps, claim).await,
            Worked::Done(Err(error)) => self.failed(claim, Some(&steps), &error).await,
            Worked::Done(Ok(Some(delivered))) => {
                // Said twice where the answer to the first time got lost, which then was the job's end.
                if !self.said(claim, End::Complete(&delivered)).await?
                    && !self.is_said(claim, &delivered).await?
                {
                    return self.lost(&steps, claim).await;
                }
                steps.tidy();
                steps.take_back_earlier().await;
                let Delivered { location, rows, bytes, .. } = delivered;
                Ok(Outcome::Completed { location, rows, bytes })
            }
        }
    }

    /// What it has stored is not what the job says: it goes. The files of a job that has ended go too.
    async fn lost(&self, steps: &Steps<'_>, claim: &Claim) -> Result<Outcome, JobError> {
        steps.take_back().await;
        if get(self.timeline(), claim.id).await?.is_none_or(|job| job.has_ended()) {
            steps.tidy();
        }
        Ok(Outcome::Lost)
    }

    async fn failed(
        &self,
        claim: &Claim,
        steps: Option<&Steps<'_>>,
        error: &JobError,
    ) -> Result<Outcome, JobError> {
        let words = error.words();
        let is_final = error.is_permanent() || claim.attempts >= i32::from(ATTEMPTS_MAX);
        let is_ours = if is_final {
            self.said(claim, End::Fail(&words)).await?
        } else {
            let doublings = u32::try_from(claim.attempts - 1).unwrap_or(0).min(8);
            self.said(claim, End::PutOff(&words, PAUSE * 2_u32.pow(doublings))).await?
        };
        if let Some(steps) = steps {
            // A storage that is full stays full of what did not fit.
            steps.take_back().await;
            if is_final && is_ours {
                steps.take_back_earlier().await;
                steps.tidy();
            }
        }
        if is_ours {
            events::failed(Attempt { job: claim.id, attempt: claim.attempts }, error.kind(), is_final);
        }
        Ok(match (is_ours, is_final) {
            (false, _) => Outcome::Lost,
            (true, true) => Outcome::Failed { error: words },
            (true, false) => Outcome::PutOff { error: words },
        })
    }

    /// Says to the database how an attempt ends, and again where it was away; whether the job was still ours.
    async fn said(&self, claim: &Claim, end: End<'_>) -> Result<bool, JobError> {
        let mut left = SAID;
        loop {
            left -= 1;
            match claim.end(self.timeline(), &end, self.keep()).await {
                Err(error) if left > 0 && is_away(&error) => {
                    events::unsaid(claim.id, telemetry::kind(&error));
                    sleep(SAID_AFTER).await;
                }
                said => return Ok(said?),
            }
        }
    }

    /// Whether the job is completed by this attempt: no other one stores at its place.
    async fn is_said(&self, claim: &Claim, delivered: &Delivered) -> Result<bool, JobError> {
        let job = get(self.timeline(), claim.id).await?;
        Ok(job.is_some_and(|job| {
            job.status == "completed" && job.location.as_deref() == Some(delivered.location.as_str())
        }))
    }

    /// Renews the lease until it is lost.
    async fn until_lost(&self, claim: &Claim) {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEWAL).await;
            let asked = Instant::now();
            let left = BELIEVED.saturating_sub(renewed.elapsed());
            match timeout(left.min(RENEWAL_TIME), claim.renew(self.timeline())).await {
                Ok(Ok(true)) => renewed = asked,
                // A database that is away may be back before others believe that the job is free.
                Ok(Err(_)) | Err(_) if renewed.elapsed() < BELIEVED => {}
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
    }
}

/// Whether the database is away: it has said nothing, or that it ends, or that it begins (class 57P).
fn is_away(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(sqlx::error::DatabaseError::code);
    code.is_none_or(|code| code.is_some_and(|code| code.starts_with("57P")))
}
