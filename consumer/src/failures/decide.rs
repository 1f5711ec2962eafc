//! Re-drive and discard. Both say what they would do, refuse to do it to everything by mistake, and leave an act.

use std::fmt::Write as _;

use anyhow::ensure;
use clap::Args;
use common::{
    acts::{self, Act},
    broker::Backlog,
    console,
    failures::letters::{self, Filter, Group},
    identifier::ForwarderId,
    moment::written,
    pace::pace,
    session::Session,
    settings::{Settings, Unusable},
};

use super::FilterArgs;
use crate::APPLICATION;

/// Entries of one transaction.
const CHUNK: u32 = 100;

/// `failures redrive`.
#[derive(Debug, Clone, Args)]
pub struct Redrive {
    #[command(flatten)]
    filter: FilterArgs,
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
pub struct Discard {
    #[command(flatten)]
    filter: FilterArgs,
    /// Why they are not to be delivered. It is kept with them.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    flags: CommonFlags,
}

pub(super) async fn redrive(
    settings: &Settings,
    connection: &mut Session,
    asked: Redrive,
) -> anyhow::Result<()> {
    let state = if asked.discarded { "discarded" } else { "dead" };
    let mut filter = asked.filter.filter(vec![state.to_owned()]);
    refuse_everything(&filter, asked.flags.all)?;
    let description = describe(&filter);
    // What dies again meanwhile is not taken up a second time.
    let now = letters::now(connection).await?;
    filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
    let table = &settings.source.table;
    let groups = letters::summary(connection, table, &filter).await?;
    if asked.flags.dry_run {
        print_result("would be delivered again", &groups, None, asked.flags.json);
        return Ok(());
    }
    let total: i64 = groups.iter().map(|group| group.count).sum();
    let ids: Vec<ForwarderId> = groups.iter().filter_map(|group| group.forwarder.parse().ok()).collect();
    let backlog = Backlog::of(&settings.broker, &ids, APPLICATION).await?;
    let actor = acts::operator();
    let act = Act { actor: &actor, kind: "redrive", filter: &description, count: 0, reason: None };
    let act = acts::record(connection, &act).await?;
    let configured: Vec<String> = settings.forwarder.iter().map(|one| one.id.to_string()).collect();
    let bar = console::Bar::new("re-driving", total.unsigned_abs());
    let mut ticker = pace(CHUNK.min(asked.rate), asked.rate);
    let mut entered = 0;
    loop {
        ticker.tick().await;
        backlog.give_way(connection).await?;
        let mut transaction = connection.begin().await?;
        let chunk =
            letters::redrive(&mut transaction, table, &filter, &configured, CHUNK.min(asked.rate).into())
                .await?;
        acts::extend(&mut transaction, act, chunk).await?;
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
        &groups,
        Some(entered),
        asked.flags.json,
    );
    Ok(())
}

pub(super) async fn discard(
    settings: &Settings,
    connection: &mut Session,
    asked: Discard,
) -> anyhow::Result<()> {
    let filter = asked.filter.filter(vec!["dead".to_owned(), "queued".to_owned()]);
    refuse_everything(&filter, asked.flags.all)?;
    let table = &settings.source.table;
    let groups = letters::summary(connection, table, &filter).await?;
    if asked.flags.dry_run {
        print_result("would be discarded", &groups, None, asked.flags.json);
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let count = letters::discard(&mut transaction, table, &filter, &asked.reason).await?;
    let (actor, description) = (acts::operator(), describe(&filter));
    let act =
        Act { actor: &actor, kind: "discard", filter: &description, count, reason: Some(&asked.reason) };
    acts::record(&mut transaction, &act).await?;
    transaction.commit().await?;
    print_result("discarded; they stay in outbox.failures", &groups, Some(count), asked.flags.json);
    Ok(())
}

fn refuse_everything(filter: &Filter, all: bool) -> anyhow::Result<()> {
    ensure!(
        all || !filter.is_empty(),
        Unusable(
            "no filter is given, which would reach every dead letter: add one (--id, --forwarder, --because, --action, \
             --since, --until), or --all if that is meant; --dry-run shows what would be reached"
                .to_owned()
        )
    );
    Ok(())
}

/// The filter in words, for the record.
fn describe(filter: &Filter) -> String {
    let Filter { forwarder, reason, states, action, since, until, reference } = filter;
    let mut text = format!("state {}", states.join(" or "));
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    };
    add("forwarder", forwarder.as_ref().map(ToString::to_string));
    add("reason", reason.clone());
    add("action", action.clone());
    add("since", since.map(written));
    add("until", until.map(written));
    add("id", reference.clone());
    text
}

fn print_result(what: &str, groups: &[Group], done: Option<u64>, json: bool) {
    let total: i64 = groups.iter().map(|group| group.count).sum();
    if json {
        let answer = serde_json::json!({ "matched": total, "done": done.unwrap_or(0), "dry_run": done.is_none(),
                                         "groups": groups });
        console::answer(&format!("{answer}\n"));
        return;
    }
    let mut text = format!("{} {what}\n", done.unwrap_or(total.unsigned_abs()));
    for Group { forwarder, state, reason, count, gone } in groups {
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
    console::answer(&text);
}
