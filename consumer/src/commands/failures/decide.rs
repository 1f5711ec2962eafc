//! Re-drive and discard. Both say what they would do, refuse to do it to everything by mistake, and record what they did in `outbox.acts`.

use std::fmt::Write as _;

use anyhow::ensure;
use clap::Args;
use common::{
    broker::LiveTrafficThrottle,
    failures::{
        FailureState,
        admin::{self, FailureSummary, Filter},
    },
    identifier::ForwarderId,
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    rate_limit::rate_limit,
    session::Session,
    settings::{Settings, UsageError},
};

use super::FilterArgs;
use crate::APPLICATION;

/// Entries of one transaction.
const CHUNK: u32 = 100;

/// `failures redrive`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Discarded ones instead of dead ones.
    #[arg(long)]
    discarded: bool,
    #[command(flatten)]
    flags: CommonFlags,
    /// Events a second.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

/// What both have in common.
#[derive(Debug, Clone, Copy, Args)]
struct CommonFlags {
    /// Everything that is dead; needed when no filter is given.
    #[arg(long)]
    all: bool,
    /// Only says what it would do.
    #[arg(long)]
    dry_run: bool,
    /// Prints a JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

/// `failures discard`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Why they are not to be delivered. It is stored with them.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    flags: CommonFlags,
}

pub(crate) async fn redrive(
    settings: &Settings,
    connection: &mut Session,
    asked: Redrive,
) -> anyhow::Result<()> {
    let state = if asked.discarded { FailureState::Discarded } else { FailureState::Dead };
    let mut filter = asked.filter.filter(vec![state]);
    refuse_everything(&filter, asked.flags.all)?;
    let description = filter.to_string();
    // What dies again meanwhile is not taken up a second time.
    let now = admin::now(connection).await?;
    filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
    let table = &settings.source.table;
    let summaries = admin::summary(connection, table, &filter, None).await?;
    require_known(connection, settings, &filter, &summaries).await?;
    if asked.flags.dry_run {
        print_result("would be delivered again", &summaries, None, asked.flags.json);
        return Ok(());
    }
    let total: i64 = summaries.iter().map(|summary| summary.count).sum();
    let ids: Vec<ForwarderId> =
        summaries.iter().filter_map(|summary| summary.forwarder.parse().ok()).collect();
    let throttle = LiveTrafficThrottle::of(&settings.broker, &ids, APPLICATION).await?;
    let actor = operator_log::operator();
    let action = OperatorAction {
        actor: &actor,
        kind: ActionKind::Redrive,
        filter: &description,
        count: 0,
        reason: None,
    };
    let action = operator_log::record(connection, &action).await?;
    let configured: Vec<String> = settings.forwarder.iter().map(|one| one.id.to_string()).collect();
    let bar = console::ProgressBar::new("re-driving", total.unsigned_abs());
    let mut ticker = rate_limit(CHUNK.min(asked.rate), asked.rate);
    let mut entered = 0;
    loop {
        ticker.tick().await;
        throttle.wait(connection).await?;
        let mut transaction = connection.begin().await?;
        let chunk =
            admin::redrive(&mut transaction, table, &filter, &configured, CHUNK.min(asked.rate).into())
                .await?;
        operator_log::extend(&mut transaction, action, chunk).await?;
        transaction.commit().await?;
        if chunk == 0 {
            break;
        }
        entered += chunk;
        bar.advance(chunk);
    }
    bar.finish();
    print_result(
        "entered the log again, addressed to their forwarder",
        &summaries,
        Some(entered),
        asked.flags.json,
    );
    Ok(())
}

pub(crate) async fn discard(
    settings: &Settings,
    connection: &mut Session,
    asked: Discard,
) -> anyhow::Result<()> {
    let filter = asked.filter.filter(vec![FailureState::Dead, FailureState::Queued]);
    refuse_everything(&filter, asked.flags.all)?;
    let table = &settings.source.table;
    let summaries = admin::summary(connection, table, &filter, None).await?;
    require_known(connection, settings, &filter, &summaries).await?;
    if asked.flags.dry_run {
        print_result("would be discarded", &summaries, None, asked.flags.json);
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let count = admin::discard(&mut transaction, table, &filter, &asked.reason).await?;
    let (actor, description) = (operator_log::operator(), filter.to_string());
    let action = OperatorAction {
        actor: &actor,
        kind: ActionKind::Discard,
        filter: &description,
        count,
        reason: Some(&asked.reason),
    };
    operator_log::record(&mut transaction, &action).await?;
    transaction.commit().await?;
    print_result("discarded; they stay in outbox.failures", &summaries, Some(count), asked.flags.json);
    Ok(())
}

/// Refuses an id that nothing is known of: it is mistyped, or was delivered meanwhile. One that waits in another state is no
/// mistake, so that the same command may run again.
async fn require_known(
    connection: &mut Session,
    settings: &Settings,
    filter: &Filter,
    matched: &[FailureSummary],
) -> anyhow::Result<()> {
    let Some(reference) = filter.reference.as_ref().filter(|_| matched.is_empty()) else { return Ok(()) };
    let one = Filter { reference: Some(reference.clone()), ..Filter::default() };
    let known = admin::list(connection, &settings.source.table, &one, 1).await?;
    ensure!(!known.is_empty(), "{}", super::unknown(reference));
    Ok(())
}

fn refuse_everything(filter: &Filter, all: bool) -> anyhow::Result<()> {
    ensure!(
        all || !filter.is_empty(),
        UsageError(
            "no filter is given, which would reach every dead letter: add one (--id, --forwarder, --reason-code, --action, \
             --since, --until), or --all if that is meant; --dry-run shows what would be reached"
                .to_owned()
        )
    );
    Ok(())
}

fn print_result(what: &str, summaries: &[FailureSummary], done: Option<u64>, json: bool) {
    let total: i64 = summaries.iter().map(|summary| summary.count).sum();
    if json {
        let answer = serde_json::json!({ "matched": total, "done": done.unwrap_or(0), "dry_run": done.is_none(),
                                         "groups": summaries });
        console::print(&format!("{answer}\n"));
        return;
    }
    let mut text = format!("{} {what}\n", done.unwrap_or(total.unsigned_abs()));
    for FailureSummary { forwarder, state, reason, count, gone } in summaries {
        let reason = reason.as_deref().unwrap_or("no reason");
        let _ = write!(text, "  {forwarder}: {count} {state} ({reason})");
        if *gone > 0 {
            let _ = write!(
                text,
                ", of {gone} the audit row is gone: they cannot be delivered and are left as they are"
            );
        }
        text.push('\n');
    }
    console::print(&text);
}
