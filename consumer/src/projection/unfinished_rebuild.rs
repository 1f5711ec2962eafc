//! What `consumer doctor` says of a rebuild that nobody has finished, whose journal grows with every change meanwhile.

use common::{
    database::Database,
    doctor::{
        Problem, Report,
        checks::{REBUILD_KEPT, REBUILD_UNFINISHED},
    },
    identifier::ForwarderId,
    outbox::reader::lease,
    settings::{ForwarderSettings, Settings},
};
use threadline::shadow::{Shadow, State};

use crate::{APPLICATION, kinds::TimelineForwarder};

/// Changes that are counted; beyond, nobody needs to know how many there are.
const COUNTED_MAX: i64 = 100_000;

/// Whoever holds this lease is at work on the second table of a forwarder's timeline.
pub(crate) fn lease_name(forwarder: &ForwarderId) -> String {
    format!("rebuild-{forwarder}")
}

/// Looks at the timeline of every forwarder into one. A timeline that is away has a finding of its own.
pub(crate) async fn check(report: &mut Report, settings: &Settings) {
    for forwarder in settings.forwarder.iter().filter(|forwarder| forwarder.kind == TimelineForwarder::KIND) {
        let Ok(timeline) = TimelineForwarder::of(forwarder, settings) else { continue };
        let Ok(mut connection) = timeline.database().connect_directly().await else { continue };
        let shadow = Shadow::of(timeline.schema());
        let seen = timeline.database().with_timeout(async {
            let state = shadow.state(&mut connection).await?;
            if matches!(state, State::None | State::Foreign) {
                return Ok((state, None));
            }
            Ok((state, shadow.count(&mut connection, COUNTED_MAX).await?))
        });
        let (state, waiting) = match seen.await {
            Ok(seen) => seen,
            Err(error) => {
                report.record_result(REBUILD_UNFINISHED, Err::<Option<Problem>, _>(error));
                continue;
            }
        };
        let found = unfinished(&forwarder.id, state, &waiting_changes(waiting));
        let found = match found {
            Some(found) => is_at_work(settings, forwarder).await.map(|at_work| (!at_work).then_some(found)),
            None => Ok(None),
        };
        report.record_result(REBUILD_UNFINISHED, found);
        report.record(REBUILD_KEPT, kept(&forwarder.id, state, &waiting_changes(waiting)));
    }
}

async fn is_at_work(settings: &Settings, forwarder: &ForwarderSettings) -> Result<bool, sqlx::Error> {
    let source = Database::source(&settings.source, APPLICATION)?;
    let mut connection = source.connect().await?;
    let name = lease_name(&forwarder.id);
    Ok(source.with_timeout(lease::holder(&mut connection, &name)).await?.is_some())
}

fn waiting_changes(waiting: Option<i64>) -> String {
    match waiting {
        Some(waiting) if waiting > COUNTED_MAX => format!("more than {COUNTED_MAX} wait there"),
        Some(waiting) => format!("{waiting} wait there"),
        None => "this role may not count them".to_owned(),
    }
}

fn unfinished(forwarder: &ForwarderId, state: State, waiting: &str) -> Option<Problem> {
    match state {
        State::None | State::Kept | State::Foreign => None,
        State::Abandoned => Some(Problem::new(
            format!(
                "forwarder {forwarder}: somebody has dropped audit_actions_shadow, the second table of a rebuild, and every change of \
                 audit_actions is still recorded for it: {waiting}"
            ),
            format!("give the rebuild up: `consumer rebuild --forwarder {forwarder} --drop-old`"),
        )),
        State::Filling | State::Filled => Some(Problem::new(
            format!(
                "forwarder {forwarder}: a rebuild was begun, no process is at work on it, and every change of audit_actions is \
                 recorded for its second table, audit_actions_shadow: {waiting}"
            ),
            format!(
                "finish it: `consumer rebuild --forwarder {forwarder}`; or give it up: the same with --drop-old"
            ),
        )),
    }
}

fn kept(forwarder: &ForwarderId, state: State, waiting: &str) -> Option<Problem> {
    (state == State::Kept).then(|| {
        Problem::new(
            format!(
                "forwarder {forwarder}: the table from before the last rebuild is kept as audit_actions_shadow, and every change of \
                 audit_actions is recorded for it: {waiting}"
            ),
            format!(
                "once the new table has proved itself: `consumer rebuild --forwarder {forwarder} --drop-old`; with --rollback \
                 instead the old one is put back"
            ),
        )
    })
}
