//! `consumer doctor`: everything that could keep the consumer from working as promised; and the part of it that a start
//! waits for.

use std::collections::HashMap;

use common::{
    broker::doctor as broker_doctor,
    database::Database,
    doctor::{
        Problem, Report, RunMode, Service,
        checks::{
            DISPATCH_WITHOUT_BROKER, FORWARDER_KIND_NOT_BUILT, FORWARDER_KIND_UNKNOWN, FORWARDER_OPTIONS,
            TARGETS_SHARED,
        },
        columns::Wanted,
        settings as settings_doctor, source,
    },
    identifier::ForwarderId,
    settings::{ForwarderSettings, Settings},
};

use crate::{
    APPLICATION,
    forwarder::{self, Forwarders, MissingKinds, Preflight, Registry},
    service::dispatch_mode::{self, DispatchMode},
};

const NAME: &str = "audit-consumer-doctor";

/// Makes all checks and prints what they found. Nothing is changed, and nothing sent to any target.
///
/// # Errors
/// When there is a finding of severity error; it is printed all the same.
pub(crate) async fn run(
    settings: &Settings,
    registry: &Registry,
    missing: MissingKinds,
    json: bool,
) -> anyhow::Result<()> {
    let mut report = Report::new(RunMode::Command);
    settings_doctor::consumer(&mut report, settings);
    let forwarders = configure(&mut report, settings, registry, missing);
    let identity =
        source::connect_and_check(&mut report, settings, Service::Consumer, NAME, &wanted(&forwarders)).await;
    if settings.broker.url.is_some() {
        broker_doctor::connect_and_check(&mut report, settings, Service::Consumer, NAME, identity.as_ref())
            .await;
    } else {
        without_broker(&mut report, settings, &forwarders).await;
    }
    targets(&mut report, &forwarders).await;
    #[cfg(feature = "threadline")]
    crate::projection::unfinished_rebuild::check(&mut report, settings).await;
    Ok(report.print(json)?)
}

/// Each by itself, so that one that cannot be used hides no other.
fn configure(
    report: &mut Report,
    settings: &Settings,
    registry: &Registry,
    missing: MissingKinds,
) -> Forwarders {
    let mut forwarders = Forwarders::new();
    for check in
        [FORWARDER_OPTIONS, FORWARDER_KIND_UNKNOWN, FORWARDER_KIND_NOT_BUILT, DISPATCH_WITHOUT_BROKER]
    {
        report.record(check, None);
    }
    for forwarder in &settings.forwarder {
        let ForwarderSettings { id, kind, .. } = forwarder;
        if !registry.has(kind) {
            if forwarder::is_built_in(kind) || missing == MissingKinds::Skipped {
                let what =
                    format!("forwarder {id}: this binary has no forwarder of kind {kind:?}, and skips it");
                let remedy = "build it with the cargo feature of that name, or register the kind";
                report.record(FORWARDER_KIND_NOT_BUILT, [Problem::new(what, remedy)]);
            } else {
                let what = format!("forwarder {id}: {}", registry.unknown(kind));
                report
                    .record(FORWARDER_KIND_UNKNOWN, [Problem::new(what, "correct its kind in the settings")]);
            }
            continue;
        }
        if DispatchMode::choose(forwarder, &settings.broker).is_none() {
            let what = format!("forwarder {id}: dispatch \"async\" needs a broker, and none is configured");
            let remedy = "set broker.url or NATS_URL, or use dispatch \"auto\" or \"sync\"";
            report.record(DISPATCH_WITHOUT_BROKER, [Problem::new(what, remedy)]);
        }
        let mut alone = settings.clone();
        alone.forwarder = vec![forwarder.clone()];
        match registry.configure(&alone, missing) {
            Ok(mut configured) => forwarders.append(&mut configured),
            Err(error) => {
                let remedy = "correct it in the settings (docs/forwarders.md)";
                report.record(FORWARDER_OPTIONS, [Problem::new(error.to_string(), remedy)]);
            }
        }
    }
    forwarders
}

/// Those that could not begin. A source that is away has a finding of its own.
async fn without_broker(report: &mut Report, settings: &Settings, forwarders: &Forwarders) {
    let Ok(source) = Database::source(&settings.source, APPLICATION) else { return };
    let Ok(mut connection) = source.connect().await else { return };
    for (ForwarderSettings { id, .. }, _) in forwarders {
        let needed = source.with_timeout(dispatch_mode::needs_broker(&mut connection, id)).await;
        let problem = needed.map(|needed| needed.then(|| dispatch_mode::broker_needed(id)));
        report.record_result(DISPATCH_WITHOUT_BROKER, problem);
    }
}

/// What they look at in the audit table.
pub(crate) fn wanted(forwarders: &Forwarders) -> Vec<Wanted<'_>> {
    let mut wanted = Vec::new();
    for (ForwarderSettings { id: forwarder, .. }, configured) in forwarders {
        wanted.push(Wanted {
            forwarder,
            columns: configured.columns(),
            needed: configured.required_columns(),
        });
    }
    wanted
}

/// What every target says of itself. Two forwarders into one place would each claim to have delivered what the other wrote.
pub(crate) async fn targets(report: &mut Report, forwarders: &Forwarders) {
    let mut taken: HashMap<String, ForwarderId> = HashMap::new();
    report.record(TARGETS_SHARED, None);
    for (ForwarderSettings { id, .. }, configured) in forwarders {
        let Preflight { target, mut checks } = configured.preflight().await;
        if target.is_some() && !report.is_at_boot() {
            checks.extend(configured.preflight_thorough().await);
        }
        for (check, found) in checks {
            report.record(
                check,
                found.map(|Problem { what, remedy, .. }| {
                    Problem::new(format!("forwarder {id}: {what}"), remedy)
                }),
            );
        }
        if let Some(target) = target
            && let Some(other) = taken.insert(target, id.clone())
        {
            let what = format!("forwarders {other} and {id} write to the same database and schema");
            let remedy = "remove one, or give it a schema of its own";
            report.record(TARGETS_SHARED, [Problem::new(what, remedy)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::BoxFuture;

    use super::*;
    use crate::{
        forwarder::{ForwardError, Forwarder, ForwarderFactory},
        kinds::Noop,
    };

    struct Away;

    impl ForwarderFactory for Away {
        fn build(&self) -> Box<dyn Forwarder> {
            Box::new(Noop)
        }

        fn target(&self) -> BoxFuture<'_, Result<Option<String>, ForwardError>> {
            Box::pin(async { Err(ForwardError::unavailable("the archive is away")) })
        }
    }

    #[tokio::test]
    async fn a_target_of_a_kind_of_the_hosts_own_that_is_away_is_found() {
        let forwarders: Forwarders = vec![(ForwarderSettings::timeline(), Arc::new(Away))];
        let mut report = Report::new(RunMode::Boot);
        targets(&mut report, &forwarders).await;
        let [finding] = report.findings() else {
            panic!("{report:?}");
        };
        assert_eq!(finding.name, "target-unreachable");
        assert_eq!(finding.what, "forwarder timeline: the archive is away");
    }
}
