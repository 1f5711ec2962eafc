//! `reconcile --seal`: closes a window that is equal on both sides with a receipt.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use common::{
    broker::SourceIdentity,
    process::console::{self, ProgressBar},
    session::Session,
    settings::{Settings, UsageError},
    time_arg::to_rfc3339,
};
use threadline::{
    Receipt,
    receipt::{self, check_key_change},
    signing::SigningKey,
    stored,
};
use time::OffsetDateTime;

use super::Reconcile;
use crate::commands::receipts::unreadable;
use crate::projection::{
    Projection,
    comparison::{self, ReportOnly, compare},
    comparison_report::{Bucketing, ComparisonReport, Finding},
    estimated_rows,
};

/// The key of the settings, unless it is not to be used.
fn key(settings: &Settings, asked: &Reconcile) -> anyhow::Result<Option<SigningKey>> {
    let key = match &settings.consumer.reconcile.receipt_key_file {
        Some(path) if !asked.unsigned => {
            let key = SigningKey::read(Path::new(path));
            Some(key.map_err(|error| UsageError(format!("consumer.reconcile.receipt_key_file: {error}")))?)
        }
        _ => None,
    };
    ensure!(
        key.is_some() || !asked.new_key,
        UsageError("--new-key needs a key: set consumer.reconcile.receipt_key_file".to_owned())
    );
    Ok(key)
}

/// Compares the window and appends its receipt.
///
/// # Errors
/// When both sides are not equal, something is on its way, the window is not over, or a server is away.
pub(crate) async fn run(
    settings: &Settings,
    projection: &Projection,
    connection: &mut Session,
    asked: &Reconcile,
) -> anyhow::Result<()> {
    let forwarder = &projection.forwarder.id;
    ensure!(
        projection.timeline.keeps_time(),
        UsageError(format!(
            "forwarder {forwarder}: with profile \"compat\" actions have the time of their delivery, so a window of events \
             is not one of the timeline: receipts need profile \"correct\""
        ))
    );
    let key = key(settings, asked)?;
    let mut timeline =
        projection.timeline.database().connect().await.context("cannot connect to the timeline")?;
    let schema = projection.timeline.schema();
    let chain = receipt::chain(timeline.direct()?, schema, forwarder.as_str())
        .await
        .map_err(|error| unreadable(schema, error))?;
    let last = chain.last();
    if let Some(last) = last.filter(|_| !asked.unsigned && !asked.new_key) {
        check_key_change(last.n, last.key.as_deref(), key.as_ref()).map_err(|refusal| {
            UsageError(format!(
                "{}: {refusal}; set consumer.reconcile.receipt_key_file to that key, or say --unsigned or --new-key if that is meant",
                refusal.term
            ))
        })?;
    }
    let settled = settled_until(connection).await?;
    let until = asked.until.unwrap_or(settled);
    ensure!(
        until <= settled,
        "events before {} may still come or be on their way; only up to {} everything is settled",
        to_rfc3339(until),
        to_rfc3339(settled)
    );
    let covered = chain.iter().map(|receipt| receipt.until).max();
    let since = match (asked.since, covered) {
        (Some(since), _) => {
            ensure!(since < until, "the window ends at {}, before it begins", to_rfc3339(until));
            since
        }
        (None, Some(covered)) if covered < until => covered,
        (None, None) => match beginning(projection, settings, connection).await? {
            Some(beginning) if beginning < until => beginning,
            _ => {
                nothing_new(asked.json, &format!("nothing happened before {}", to_rfc3339(until)));
                return Ok(());
            }
        },
        (None, Some(covered)) => {
            nothing_new(asked.json, &format!("receipts reach up to {}", to_rfc3339(covered)));
            return Ok(());
        }
    };
    // A window that has changed for a good reason (a dead letter delivered after all, a new mapping) may be sealed again; what
    // lies between windows, or before them, by itself.
    let again = chain.iter().any(|receipt| (receipt.since, receipt.until) == (since, until));
    let met = chain.iter().find(|receipt| since < receipt.until && receipt.since < until);
    if let Some(met) = met.filter(|_| !again) {
        bail!(
            "receipt {} already covers {} to {}: only that very window can be sealed again, or one that no receipt \
             touches",
            met.n,
            to_rfc3339(met.since),
            to_rfc3339(met.until)
        );
    }
    let window = stored::Window { since: Some(since), until: Some(until) };
    let mut findings = ComparisonReport::new(Bucketing::Whole, 20);
    let bar = ProgressBar::new("comparing", estimated_rows(connection, settings).await?);
    let adoption = projection.adoption(asked.accept_foreign_ids).await?;
    compare(&projection.comparison_input(settings, adoption), window, &mut findings, &mut ReportOnly(&bar))
        .await?;
    bar.finish();
    let report = findings.printed(forwarder, window, None);
    ensure!(
        findings.is_equal() && findings.count(Finding::Pending) == 0,
        "the window is not sealed: both sides must be equal, and nothing on its way\n{}",
        report.text()
    );
    let bucket = findings.bucket(0);
    let dead_letters = bucket.count(Finding::Dead) + bucket.count(Finding::Discarded);
    let window = receipt::SealedWindow {
        forwarder: forwarder.to_string(),
        source: SourceIdentity::read(connection, &settings.source.table).await?.to_string(),
        since,
        until,
        actions: bucket.timeline.rows().cast_signed(),
        dead_letters: dead_letters.cast_signed(),
        first_at: bucket.first_at,
        digest: bucket.timeline.to_string(),
    };
    let now = common::failures::admin::now(&mut timeline).await?;
    let receipt = Receipt::seal(window, last, now, key.as_ref());
    receipt::append(timeline.direct()?, schema, &receipt).await.context("cannot append the receipt")?;
    console::print(&if asked.json { serde_json::to_string_pretty(&receipt)? + "\n" } else { text(&receipt) });
    Ok(())
}

/// That is no failure: a job that seals every night may come twice, or before anything has happened.
fn nothing_new(json: bool, why: &str) {
    console::print(&if json {
        format!("{}\n", serde_json::json!({ "sealed": false, "why": why }))
    } else {
        format!("nothing new to seal: {why}\n")
    });
}

/// A receipt, for people.
pub(crate) fn text(receipt: &Receipt) -> String {
    let Receipt { n, actions, dead_letters, hash, since, until, .. } = receipt;
    let signed = if receipt.key.is_some() { ", signed" } else { "" };
    format!(
        "receipt {n}: {} to {}, {actions} actions, {dead_letters} dead letters{signed}\n  hash {hash}\n",
        to_rfc3339(*since),
        to_rfc3339(*until)
    )
}

/// The last full minute before which every event is in the timeline or a dead letter, and no transaction may add one.
async fn settled_until(connection: &mut Session) -> anyhow::Result<OffsetDateTime> {
    let settled: Option<OffsetDateTime> =
        sqlx::query_scalar("select date_trunc('minute', nullif(outbox.safe_before(), '-infinity'))")
            .fetch_one(connection)
            .await
            .context("cannot ask outbox.safe_before()")?;
    settled.context(
        "nothing is known to be delivered yet: publisher and consumer must have run for a minute (relay.maintenance_interval)",
    )
}

/// When the first event happened, to the minute.
async fn beginning(
    projection: &Projection,
    settings: &Settings,
    connection: &mut Session,
) -> anyhow::Result<Option<OffsetDateTime>> {
    let first = comparison::first_event(connection, &settings.source.table, &projection.timeline).await?;
    Ok(first.and_then(|first| first.replace_second(0).and_then(|it| it.replace_nanosecond(0)).ok()))
}
