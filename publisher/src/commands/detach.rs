//! `publisher detach`: stops capture.

use common::{
    database::Database,
    outbox::{self, OutboxError, capture},
    process::console,
    settings::Settings,
};

use crate::commands::{APPLICATION, table_in_use};

/// Stops capture.
///
/// # Errors
/// When the table is too busy.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut connection = outbox::reach(&Database::source(&settings.source, APPLICATION)?).await?;
    // Whatever the settings call the table, it is the outbox's own that is released.
    let required = outbox::require(&mut connection, &settings.source.table).await;
    if let Err(error @ (OutboxError::Missing | OutboxError::Database(_))) = required {
        return Err(error.into());
    }
    let tables = match capture::detach(&mut connection).await {
        Ok(tables) => tables,
        Err(error) => {
            let error = table_in_use::explain(&mut connection, &settings.source.table, error).await;
            return Err(error.context("cannot detach; nothing has changed"));
        }
    };
    let of = if tables.is_empty() {
        "was off already".to_owned()
    } else {
        format!("of {} is off", tables.join(", "))
    };
    console::print(&format!("capture {of}; what has been captured is still relayed\n"));
    Ok(())
}
