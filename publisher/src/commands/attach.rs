//! `publisher attach`: creates the outbox and starts capture.

use anyhow::{Context as _, bail};
use common::{
    database::Database,
    event::NEEDED_BY_THREADLINE,
    outbox::{
        self,
        capture::{self, columns, ownership, triggers},
    },
    process::console,
    settings::Settings,
};

use crate::commands::{APPLICATION, table_in_use};

/// Creates the outbox where it is missing and starts capture.
///
/// # Errors
/// When the table is not fit, or too busy; nothing is half done.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let table = &settings.source.table;
    let mut connection = outbox::reach(&Database::source(&settings.source, APPLICATION)?).await?;
    if !capture::table_exists(&mut connection, table).await? {
        bail!("there is no table {table}: {}", capture::NO_TABLE_REMEDY);
    }
    let recreated = outbox::migrate(&mut connection).await.context("cannot create the schema outbox")?;
    let replaced = triggers::replaced(&mut connection, table).await?;
    if let Err(error) = capture::attach(&mut connection, table).await {
        return Err(table_in_use::explain(&mut connection, table, error)
            .await
            .context(format!("cannot attach {table}")));
    }
    if let Some((role, lacks)) = ownership::lacking(&mut connection).await? {
        let cause = capture::Cause::Powerless { role, lacks };
        let table = table.to_string();
        bail!("{}: {}", cause.what(&table), cause.remedy(&table));
    }
    for (what, remedy) in capture::warnings(&mut connection, table).await? {
        tracing::warn!(%table, remedy, "{what}");
    }
    // The log needs no more than it has insisted on. What other forwarders need, their binary knows.
    let columns = columns::of(&mut connection, table).await.context("cannot read its columns")?;
    if settings.forwarder.iter().any(|one| one.kind == "threadline") {
        for name in NEEDED_BY_THREADLINE.into_iter().filter(|name| !columns.contains_key(*name)) {
            tracing::warn!(
                %table,
                column = name,
                "the table lacks a column without which the forwarder threadline can deliver nothing: the consumer will not \
                 start with it (docs/events.md)"
            );
        }
    }
    if !recreated.is_empty() {
        let forgotten: Vec<&str> =
            std::iter::once("").chain(recreated.iter().filter_map(|name| forgotten(name))).collect();
        console::print(&format!(
            "recreated what had been dropped from the schema outbox: {}{}. Grants on it are to be made again \
             (deploy/postgres/source.sql)\n",
            recreated.join(", "),
            forgotten.join("; ")
        ));
    }
    for trigger in replaced {
        console::print(&if trigger.repeats {
            format!("removed a trigger: {trigger}\n")
        } else {
            format!(
                "replaced a trigger: {trigger}. Rows that were inserted meanwhile may not be in the log: `publisher backfill` enters them\n"
            )
        });
    }
    console::print(&format!("every row inserted into {table} from now on is captured\n"));
    Ok(())
}

/// What is gone with a table, and what to do about it.
fn forgotten(table: &str) -> Option<&'static str> {
    match table {
        "entries" => Some(
            "what was captured and not delivered is not in the log any more: `publisher backfill` enters it",
        ),
        "failures" => Some("its dead letters are lost: `consumer reconcile` finds their events"),
        "rounds" => {
            Some("readers begin again with what the log holds: what had arrived has no second effect")
        }
        "acts" => Some("who did what is forgotten"),
        _ => None,
    }
}
