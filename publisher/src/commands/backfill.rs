//! `publisher backfill`: rows that were there before capture, or any others, enter the log and are relayed like all others.

use std::{collections::HashSet, fmt::Write as _};

use anyhow::bail;
use clap::{Args, builder::NonEmptyStringValueParser};
use common::{
    broker::LiveTrafficThrottle,
    identifier::{ForwarderId, TableName},
    outbox::{
        self,
        admin::backfill::{self, Filter},
    },
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    rate_limit::rate_limit,
    session::Session,
    settings::{Settings, UsageError},
    time_arg::{TimeArg, require_range},
};
use serde::Serialize;
use tokio::time::Interval;
use uuid::Uuid;

use crate::commands::adopted::Adoptions;

/// Rows walked past with one transaction.
const CHUNK: u32 = 1_000;

/// Rows that were left behind are looked for so many at a time, because each look reads the log.
const LEFT_BEHIND: i64 = 10_000;

const WHICH: &str = "Which rows";
const HOW: &str = "How they are entered";

/// Which rows, and how.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Backfill {
    /// Rows that happened at or after this time: RFC 3339, a date (in UTC), or so long ago, such as `90days`.
    #[arg(long, value_name = "TIME", help_heading = WHICH)]
    since: Option<TimeArg>,
    /// Rows that happened before this time.
    #[arg(long, value_name = "TIME", help_heading = WHICH)]
    until: Option<TimeArg>,
    /// Rows of an action; `auth.*` for all that begin like this.
    #[arg(long, help_heading = WHICH, value_parser = NonEmptyStringValueParser::new())]
    action: Option<String>,
    /// For one forwarder only. Without it for all.
    #[arg(long, help_heading = WHICH)]
    forwarder: Option<ForwarderId>,
    /// Leaves out events that Sigra's own forwarder has delivered: those whose id is the correlation id of an action in the
    /// timeline. That they are there is remembered, and honoured by everything that writes to the timeline or compares it.
    #[arg(long, alias = "adopt", help_heading = WHICH)]
    accept_foreign_ids: bool,
    /// Most rows a second. Without it as many as live traffic, which has priority, leaves room for.
    #[arg(long, value_name = "N", help_heading = HOW, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Starts over where the same backfill was interrupted before, instead of continuing it.
    #[arg(long, help_heading = HOW)]
    restart: bool,
    /// Only says how many rows would be entered.
    #[arg(long, help_heading = HOW)]
    dry_run: bool,
    /// Prints a JSON object instead of a sentence.
    #[arg(long)]
    json: bool,
}

impl Backfill {
    fn filter(&self) -> Filter {
        let at = |time: &Option<TimeArg>| time.as_ref().map(|time| time.at);
        Filter { since: at(&self.since), until: at(&self.until), action: self.action.clone() }
    }

    /// Whether the same words mean other times when the command runs again.
    fn is_relative(&self) -> bool {
        [&self.since, &self.until].into_iter().flatten().any(TimeArg::is_relative)
    }

    /// What capture has missed is made good by a walk past all rows that begins now; one that continues comes back for those before
    /// the place where it was interrupted.
    async fn claim(
        &self,
        connection: &mut Session,
        table: &TableName,
        work: &backfill::Backfill,
    ) -> Result<(), sqlx::Error> {
        if self.filter() == Filter::default() && self.forwarder.is_none() {
            backfill::claim_missed(connection, table, work).await?;
        }
        Ok(())
    }

    /// What was asked for; the same words continue with the same work.
    fn text(&self) -> String {
        let mut text = String::from("all rows");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(text, ", {name} {value}");
            }
        };
        add("since", self.since.as_ref().map(ToString::to_string));
        add("until", self.until.as_ref().map(ToString::to_string));
        add("action", self.action.clone());
        add("forwarder", self.forwarder.as_ref().map(ToString::to_string));
        add("without", self.accept_foreign_ids.then(|| "what Sigra's forwarder has delivered".to_owned()));
        text
    }
}

async fn adoptions(settings: &Settings, asked: &Backfill) -> anyhow::Result<Option<Adoptions>> {
    if !asked.accept_foreign_ids {
        return Ok(None);
    }
    Adoptions::connect(settings, asked.forwarder.as_ref()).await.map(Some)
}

/// The forwarders that the rows are entered for.
fn addressed(settings: &Settings, asked: &Backfill) -> Result<Vec<ForwarderId>, UsageError> {
    let mut configured = settings.forwarder.iter().map(|one| one.id.clone());
    match &asked.forwarder {
        None => Ok(configured.collect()),
        Some(one) if configured.any(|id| id == *one) => Ok(vec![one.clone()]),
        Some(unknown) => Err(UsageError(format!(
            "no forwarder {unknown} is configured: its events would become dead letters"
        ))),
    }
}

/// Enters them.
///
/// # Errors
/// When a server is away, or the table or the timeline is not what it should be. What has been entered stays entered; the
/// same command continues behind it.
pub(crate) async fn run(settings: &Settings, asked: &Backfill) -> anyhow::Result<()> {
    if !asked.is_relative() {
        require_range(asked.filter().since, asked.filter().until)?;
    }
    let (_, mut connection) = outbox::open(&settings.source, "audit-publisher-backfill").await?;
    let table = &settings.source.table;
    let (mut filter, text) = (asked.filter(), asked.text());
    let earlier = backfill::unfinished(&mut connection, &text).await?;
    let (given_up, unfinished) = if asked.restart { (earlier, None) } else { (None, earlier) };
    if let Some(work) = &unfinished {
        // What `2h` and the like meant then.
        (filter.since, filter.until) = (work.since, work.until);
    }
    require_range(filter.since, filter.until)?;
    let mut adopted = adoptions(settings, asked).await?;
    if asked.dry_run {
        let done = unfinished.as_ref().map_or(0, |work| work.passed);
        let counted = if let Some(adopted) = &mut adopted {
            let after = unfinished.and_then(|work| work.after_id);
            count(&mut connection, table, &filter, after, adopted).await?
        } else {
            let total = backfill::count(&mut connection, table, &filter).await?;
            DryRun { matched: total - done.min(total), adopted: 0 }
        };
        let DryRun { matched, adopted } = counted;
        let entered = matched - adopted;
        print(
            asked.json,
            &Report { filter: &text, matched, passed: done, adopted, entered, left_behind: 0, dry_run: true },
        );
        return Ok(());
    }
    let forwarders = addressed(settings, asked)?;
    let throttle = LiveTrafficThrottle::of(&settings.broker, &forwarders, "audit-publisher-backfill").await?;
    if let Some(adopted) = &mut adopted {
        adopted.record().await?;
    }
    // An event that one timeline holds is news to the other forwarders.
    let others: Vec<ForwarderId> = forwarders
        .iter()
        .filter(|id| adopted.as_ref().is_some_and(|one| one.forwarder != **id))
        .cloned()
        .collect();
    let mut work = if let Some(work) = unfinished {
        tracing::info!(
            passed = work.passed,
            of = work.total,
            "continuing where the same backfill was interrupted; what lies before that is read again at the end"
        );
        work
    } else {
        if let Some(earlier) = given_up {
            backfill::finish(&mut connection, earlier.id).await?;
        }
        let total = backfill::count(&mut connection, table, &filter).await?;
        backfill::begin(&mut connection, &text, &filter, asked.forwarder.as_ref(), total).await?
    };
    asked.claim(&mut connection, table, &work).await?;
    let actor = operator_log::operator();
    let action =
        OperatorAction { actor: &actor, kind: ActionKind::Backfill, filter: &text, count: 0, reason: None };
    let action = operator_log::record(&mut connection, &action).await?;
    let bar = console::ProgressBar::new("entering", work.total.unsigned_abs());
    bar.advance(work.passed.unsigned_abs());
    // What was inserted before this place since the walk went by, while capture was off, is in no log.
    let resumed_after = work.after_id;
    let chunk = asked.rate.map_or(CHUNK, |rate| rate.min(CHUNK));
    let mut walk = Walk {
        table,
        filter: &filter,
        forwarder: asked.forwarder.as_ref(),
        others,
        adopted,
        action,
        chunk,
        ticker: asked.rate.map(|rate| rate_limit(chunk, rate)),
        throttle,
        found: 0,
    };
    loop {
        walk.wait(&mut connection).await?;
        let page = backfill::page(&mut connection, table, &filter, work.after_id, chunk.into()).await?;
        let Some(&(last, _)) = page.last() else { break };
        let page: Vec<Uuid> = page.into_iter().filter(|(_, wanted)| *wanted).map(|(id, _)| id).collect();
        walk.append_page(&mut connection, &mut work, &page, last).await?;
        bar.advance(page.len() as u64);
    }
    let left_behind = match resumed_after {
        Some(until) => walk.enter_left_behind(&mut connection, &mut work, until).await?,
        None => 0,
    };
    warn_of_missed(backfill::clear_missed(&mut connection, table, &work).await?);
    backfill::finish(&mut connection, work.id).await?;
    bar.finish();
    let backfill::Backfill { total: matched, passed, entered, .. } = work;
    let adopted = walk.found;
    let report = Report { filter: &text, matched, passed, adopted, entered, left_behind, dry_run: false };
    print(asked.json, &report);
    Ok(())
}

/// What stays the same while rows are walked past.
struct Walk<'a> {
    table: &'a TableName,
    filter: &'a Filter,
    forwarder: Option<&'a ForwarderId>,
    /// An event that one timeline holds is news to the other forwarders.
    others: Vec<ForwarderId>,
    adopted: Option<Adoptions>,
    /// The line in the log of operators' actions.
    action: i64,
    chunk: u32,
    ticker: Option<Interval>,
    throttle: LiveTrafficThrottle,
    /// Rows that the timeline held.
    found: i64,
}

impl Walk<'_> {
    /// Until the next page may be entered.
    async fn wait(&mut self, connection: &mut Session) -> anyhow::Result<()> {
        if let Some(ticker) = &mut self.ticker {
            ticker.tick().await;
        }
        self.throttle.wait(connection).await?;
        Ok(())
    }

    /// Enters the rows up to `until` that the log has nothing of. Returns how many there were.
    async fn enter_left_behind(
        &mut self,
        connection: &mut Session,
        work: &mut backfill::Backfill,
        until: Uuid,
    ) -> anyhow::Result<i64> {
        let (mut entered, mut after) = (0, None);
        loop {
            let (forwarder, span) = (self.forwarder, (after, until));
            let ids =
                backfill::left_behind(connection, self.table, self.filter, forwarder, span, LEFT_BEHIND)
                    .await?;
            let Some(&last) = ids.last() else { return Ok(entered) };
            for page in ids.chunks(self.chunk as usize) {
                self.wait(connection).await?;
                let position = work.after_id.unwrap_or(until);
                entered += self.append_page(connection, work, page, position).await?;
            }
            after = Some(last);
        }
    }

    /// Enters a page of rows and moves on to `last`, in one transaction. Returns how many were entered.
    async fn append_page(
        &mut self,
        connection: &mut Session,
        work: &mut backfill::Backfill,
        page: &[Uuid],
        last: Uuid,
    ) -> anyhow::Result<i64> {
        let passed = i64::try_from(page.len()).unwrap_or(i64::MAX);
        let found = match &mut self.adopted {
            Some(adopted) => adopted.find(page).await?,
            None => HashSet::new(),
        };
        let (found, page): (Vec<Uuid>, Vec<Uuid>) = page.iter().partition(|id| found.contains(id));
        self.found += i64::try_from(found.len())?;
        let mut transaction = connection.begin().await?;
        let entered = backfill::append_entries(&mut transaction, self.table, &page, self.forwarder).await?;
        for other in &self.others {
            backfill::append_entries(&mut transaction, self.table, &found, Some(other)).await?;
        }
        if !backfill::advance(&mut transaction, work, last, passed, entered.cast_signed()).await? {
            bail!("another process works at the same backfill; nothing is lost, let it finish");
        }
        operator_log::extend(&mut transaction, self.action, entered).await?;
        transaction.commit().await?;
        work.after_id = Some(last);
        work.passed += passed;
        work.entered += entered.cast_signed();
        Ok(entered.cast_signed())
    }
}

/// Says that what capture missed has not all been made good.
fn warn_of_missed(rows: i64) {
    if rows > 0 {
        tracing::warn!(
            rows,
            "rows that capture has missed are still counted: this backfill did not walk past all rows, or some had no id when it \
             began. Give each row an id, and run `publisher backfill` without a filter"
        );
    }
}

/// What a dry run found.
#[derive(Debug, Default)]
struct DryRun {
    matched: i64,
    adopted: i64,
}

/// Walks past the same rows as the work itself, and enters none.
async fn count(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    mut after: Option<Uuid>,
    adopted: &mut Adoptions,
) -> anyhow::Result<DryRun> {
    let mut counted = DryRun::default();
    loop {
        let page = backfill::page(connection, table, filter, after, CHUNK.into()).await?;
        let Some(&(last, _)) = page.last() else { return Ok(counted) };
        let wanted: Vec<Uuid> = page.into_iter().filter(|(_, wanted)| *wanted).map(|(id, _)| id).collect();
        counted.adopted += i64::try_from(adopted.find(&wanted).await?.len())?;
        counted.matched += i64::try_from(wanted.len())?;
        after = Some(last);
    }
}

/// What there is to say at the end.
#[derive(Debug, Serialize)]
struct Report<'a> {
    filter: &'a str,
    matched: i64,
    passed: i64,
    /// Of these, those that the timeline held: they are not entered for its forwarder.
    adopted: i64,
    /// Of a dry run, those that would be.
    entered: i64,
    /// Of the rows entered, those that came to lie before the place where a backfill was interrupted.
    left_behind: i64,
    dry_run: bool,
}

fn print(json: bool, report: &Report<'_>) {
    let Report { filter, passed, adopted, entered, left_behind, dry_run, .. } = report;
    let found = if *adopted > 0 {
        format!("; {adopted} that the timeline holds under other ids count as delivered")
    } else {
        String::new()
    };
    let behind = if *left_behind > 0 {
        format!("; {left_behind} of them lay before the place where it continued")
    } else {
        String::new()
    };
    console::print(&if json {
        format!("{}\n", serde_json::json!(report))
    } else if *dry_run {
        format!("{entered} rows would be entered ({filter}), {passed} have been before{found}\n")
    } else {
        format!(
            "{entered} rows entered the log ({filter}){behind}; what had arrived is left as it is{found}\n"
        )
    });
}
