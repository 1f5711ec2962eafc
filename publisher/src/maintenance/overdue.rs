//! Delivers events again whose retry is long overdue.

use std::time::Duration;

use common::{failures, session::Session};

/// An event that has waited this much too long for its next attempt has lost its message: another process settled it, or the
/// stream was lost.
const OVERDUE: Duration = Duration::from_secs(3_600);

/// Appends entries for them to the log.
///
/// # Errors
/// When the database is away.
pub(super) async fn requeue(connection: &mut Session) -> Result<(), sqlx::Error> {
    let events = failures::requeue_overdue(connection, OVERDUE).await?;
    if events > 0 {
        tracing::warn!(events, "waited for a retry whose message is gone: entered the log again");
    }
    Ok(())
}
