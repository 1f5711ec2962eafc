//! The services' way to the source through a pooler.

use std::sync::OnceLock;

use anyhow::Context as _;
use sandbox::pgbouncer::PgBouncer;

use crate::sandbox;

/// Set, it leads every pipeline of the tests through a pooler.
const THROUGH_POOLER: &str = "THROUGH_POOLER";

/// The same environment with the way to the source through a test's own pooler, or where every pipeline goes through one, through that.
/// What needs a connection of its own gets one, and so does a test that has put something else on the way.
pub(crate) fn lead(
    own: Option<&PgBouncer>,
    binary: &str,
    arguments: &[&str],
    environment: &[(&'static str, String); 4],
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let pooler = match own {
        Some(own) => Some(own),
        None if std::env::var_os(THROUGH_POOLER).is_some() => Some(shared()?),
        None => None,
    };
    // The example of a host reads its settings from a file alone.
    let needs_its_own =
        ["threadline", "embed_publisher"].contains(&binary) || arguments.first() == Some(&"attach");
    let mut environment = environment.to_vec();
    for variable in &mut environment {
        let led = pooler
            .filter(|_| variable.0 == "SOURCE_DATABASE_URL" && !needs_its_own)
            .and_then(|pooler| pooler.lead(&variable.1));
        if let Some(led) = led {
            variable.1 = led;
            environment.push(("AUDIT__SOURCE__POOLER", "true".to_owned()));
            break;
        }
    }
    Ok(environment)
}

/// The one before the shared server. Never dropped: its watchdog stops it when the test binary ends.
fn shared() -> anyhow::Result<&'static PgBouncer> {
    static SHARED: OnceLock<Result<PgBouncer, String>> = OnceLock::new();
    let start = || {
        let sandbox = sandbox();
        PgBouncer::start(&sandbox.work_dir, &sandbox.postgres.url("postgres"), "")
            .map_err(|error| format!("{error:#}"))
    };
    SHARED.get_or_init(start).as_ref().map_err(|error| anyhow::anyhow!("{error}")).context("the pooler")
}
