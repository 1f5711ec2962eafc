//! What the doctors find, on servers that are really like that, and what a start makes of it.

mod broker;
mod dropped;
mod source;
mod timeline;

use common::doctor::checks;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{
    fixture::{self, TestDatabase},
    nats::Nats,
    rights,
    work_dir::{WorkDir, free_port},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// What a doctor answered.
pub(crate) struct Answer {
    pub(crate) sound: bool,
    pub(crate) json: Value,
}

impl Answer {
    fn names(&self) -> Vec<&str> {
        let findings = self.json["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["name"].as_str().unwrap()).collect()
    }

    pub(crate) fn has(&self, name: &str, words: &[&str]) {
        let text = self.json.to_string();
        let findings = self.json["findings"].as_array().unwrap();
        let of_it: Vec<String> =
            findings.iter().filter(|finding| finding["name"] == name).map(Value::to_string).collect();
        for word in words {
            // As JSON has it.
            let word = word.replace('"', "\\\"");
            assert!(of_it.iter().any(|finding| finding.contains(&word)), "{name}: {word}: {text}");
        }
        assert!(!of_it.is_empty(), "{name}: {text}");
        assert!(self.json["checked"].as_array().unwrap().contains(&name.into()), "{name}: {text}");
    }

    pub(crate) fn misses(&self, names: &[&str]) {
        for name in names {
            assert!(!self.names().contains(name), "{name}: {}", self.json);
        }
    }
}

pub(crate) fn doctor(pipeline: &Pipeline, binary: &str, more: &[&str]) -> anyhow::Result<Answer> {
    let (sound, said) = pipeline.command(binary, &[&["doctor", "--json"], more].concat())?;
    // What follows is the error that the exit status stands for.
    let json: Value = serde_json::Deserializer::from_str(&said)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{said}"))
        .unwrap_or_else(|error| panic!("{error}: {said}"));
    let errors = json["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] == "error");
    assert_eq!(sound, !errors, "the exit status says whether there are errors: {said}");
    Ok(Answer { sound, json })
}

async fn sql(database: &TestDatabase, statement: &str) -> anyhow::Result<()> {
    database.superuser().await?.execute(AssertSqlSafe(statement.to_owned())).await?;
    Ok(())
}

/// A role of the pipeline's own, and the pipeline as it.
async fn as_role(pipeline: &mut Pipeline, grants: &str) -> anyhow::Result<String> {
    let role = format!("doctor_{}", Uuid::new_v4().simple());
    sql(&pipeline.source, &format!("create role {role} login; {}", grants.replace("ROLE", &role))).await?;
    pipeline.source.url = rights::as_role(&pipeline.source.url, &role);
    Ok(role)
}

const ALL_GRANTS: &str = "grant usage on schema outbox to ROLE;
     grant select, insert, update, delete on all tables in schema outbox to ROLE;
     grant execute on function outbox.attached_table(), outbox.base_type(oid), outbox.faults(oid), outbox.this_database() to ROLE;
     grant select on audit_events to ROLE";

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_pipeline_has_no_findings_and_a_doctor_changes_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_own_nats().await?;
    // Old servers are trimmed message by message, which is no fault of the pipeline.
    let harmless = |name: &str| name == "broker-trims-slowly";
    let trims_slowly = !async_nats::connect(&pipeline.nats_url).await?.is_server_compatible(2, 9, 15);
    let answer = doctor(&pipeline, "publisher", &[])?;
    assert_eq!(answer.names().contains(&"broker-trims-slowly"), trims_slowly, "{}", answer.json);
    for binary in ["publisher", "consumer"] {
        let answer = doctor(&pipeline, binary, &[])?;
        assert!(answer.sound);
        let names: Vec<_> = answer.names().into_iter().filter(|name| !harmless(name)).collect();
        assert_eq!(names, ["stream-missing"], "{}", answer.json);
    }
    let context = async_nats::jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    assert!(context.get_stream(&pipeline.name).await.is_err(), "no stream was created");
    let mut source = pipeline.source.connect().await?;
    let rows = "select (select count(*) from outbox.rounds) + (select count(*) from outbox.leases)
                       + (select count(*) from outbox.acts) + (select count(*) from outbox.entries)";
    assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&mut source).await?, 0, "no row was written");

    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    for binary in ["publisher", "consumer"] {
        let answer = doctor(&pipeline, binary, &[])?;
        let names: Vec<_> = answer.names().into_iter().filter(|name| !harmless(name)).collect();
        assert!(answer.sound && names.is_empty(), "{}", answer.json);
        let (done, said) = pipeline.command(binary, &["doctor"])?;
        assert!(done && said.contains("source\n") && said.contains("0 error(s), 0 warning(s)"), "{said}");
        assert!(
            said.contains("  ok       stream-unfit: The stream keeps and refuses what it has to."),
            "{said}"
        );
    }
    for process in [publisher, consumer] {
        assert!(!process.log().contains("\"finding\""), "{}", process.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_refused_with_the_finding_and_its_remedy() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let role =
        as_role(&mut pipeline, &format!("{ALL_GRANTS}; revoke delete on outbox.rounds from ROLE")).await?;
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done && said.contains("refused to start"), "{said}");
        assert!(
            said.contains(&format!("grant-missing: the role {role} lacks delete on outbox.rounds")),
            "{said}"
        );
        assert!(
            said.contains(&format!("remedy: run as its owner: grant delete on outbox.rounds to {role}")),
            "{said}"
        );
    }
    let context = async_nats::jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    assert!(context.get_stream(&pipeline.name).await.is_err(), "who does not start creates nothing");
    let mut refused = pipeline.publisher()?;
    assert_eq!(refused.wait(DEADLINE)?.code(), Some(1));

    // A warning is a line of the log, and nothing else.
    let mut pipeline = Pipeline::with_settings("forward_timeout = \"5m\"").await?;
    let consumer = pipeline.consumer()?;
    let faketime = ["faketime", "--exclude-monotonic", "-f", "+5m"];
    let publisher = pipeline.start_behind(&faketime, "publisher", &["--set", "log.format=json"])?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(consumer.log().contains("\"finding\":\"forward-timeout-long\""), "{}", consumer.log());
    let log = publisher.log();
    assert!(log.contains("\"finding\":\"clock-offset\"") && log.contains("s ahead of the source's"), "{log}");

    // Targets are looked at before anything is taken from the stream.
    pipeline.timeline = fixture::empty_database().await?;
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("timeline-missing: forwarder timeline: there is no table"), "{said}");
    assert!(said.contains("remedy: run `threadline install --schema public`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_away_are_findings_and_the_other_checks_are_made() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let nowhere = free_port()?;
    let source = pipeline.source.clone();
    pipeline.source.url = format!("postgres://app:hunter2@127.0.0.1:{nowhere}/app");
    let answer = doctor(&pipeline, "publisher", &[])?;
    answer.has("source-unreachable", &["cannot connect to the source database", "SOURCE_DATABASE_URL"]);
    answer.has("stream-missing", &["`publisher run` creates it"]);
    assert!(!answer.json.to_string().contains("hunter2"), "{}", answer.json);

    pipeline.source = source;
    pipeline.nats_url = format!("nats://app:hunter2@127.0.0.1:{nowhere}");
    pipeline.timeline.url = format!("postgres://app:hunter2@127.0.0.1:{nowhere}/timeline");
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("broker-unreachable", &["cannot connect to NATS at nats://app:***@127.0.0.1"]);
    answer.has("timeline-unreachable", &["forwarder timeline: cannot connect to the timeline database"]);
    assert!(answer.json["checked"].as_array().unwrap().contains(&"grant-missing".into()), "{}", answer.json);
    assert!(!answer.json.to_string().contains("hunter2"), "{}", answer.json);
    pipeline.nats_url = String::new();
    doctor(&pipeline, "publisher", &[])?.has("broker-unreachable", &["no broker is configured"]);

    let work_dir = WorkDir::create()?;
    let nats = Nats::start_without_jetstream(&work_dir)?;
    nats.url().clone_into(&mut pipeline.nats_url);
    doctor(&pipeline, "publisher", &[])?.has("jetstream-disabled", &["nats-server -js"]);
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("jetstream-disabled: "), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_forwarders_and_their_targets_is_found() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"a\"\nkind = \"threadline\"\n[[forwarder]]\nid = \"b\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"c\"\nkind = \"noop\"\ncolour = 1\n[[forwarder]]\nid = \"d\"\nkind = \"of-the-host\"\n\
         [[forwarder]]\nid = \"e\"\nkind = \"noop\"\ndispatch = \"async\"",
    )
    .await?;
    pipeline.nats_url = String::new();
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("targets-shared", &["forwarders a and b write to the same database and schema", "remove one"]);
    answer.has("forwarder-options", &["forwarder c: colour: unknown field"]);
    answer.has(
        "forwarder-kind-unknown",
        &["forwarder d: there is no kind \"of-the-host\"", "--allow-missing-kinds"],
    );
    doctor(&pipeline, "consumer", &["--allow-missing-kinds"])?
        .has("forwarder-kind-not-built", &["forwarder d: this binary has no forwarder of kind"]);
    answer.has("dispatch-without-broker", &["forwarder e: dispatch", "NATS_URL"]);

    let pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"own\"\nkind = \"faulty\"\npath = \"/dev/null\"\naway = true",
    )
    .await?;
    doctor(&pipeline, "host", &[])?
        .has("target-unreachable", &["faulty: nobody is there", "see that the target is there"]);
    let (done, said) = pipeline.command("host", &["run"])?;
    assert!(!done && said.contains("target-unreachable: "), "{said}");

    let mut pipeline = Pipeline::new().await?;
    let owner = pipeline.timeline.clone();
    let role = format!("doctor_{}", Uuid::new_v4().simple());
    sql(
        &owner,
        &format!(
            "create role {role} login; grant select on audit_actions to {role};
             alter table audit_transactions drop constraint audit_transactions_action_id_fkey;
             alter table audit_actions drop constraint audit_actions_pkey"
        ),
    )
    .await?;
    pipeline.timeline.url = rights::as_role(&pipeline.timeline.url, &role);
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer
        .has("timeline-grant-missing", &[&format!("grant insert on \"public\".\"audit_actions\" to {role}")]);
    answer.has("timeline-key-missing", &["add primary key (id)"]);
    answer.misses(&["timeline-missing"]);
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("timeline-key-missing: forwarder timeline: "), "{said}");
    sql(&owner, "alter table audit_actions add primary key (id, inserted_at)").await?;
    doctor(&pipeline, "consumer", &[])?.misses(&["timeline-key-missing"]);
    sql(&owner, "drop table audit_actions").await?;
    doctor(&pipeline, "consumer", &[])?.has("timeline-missing", &["threadline install --schema public"]);
    Ok(())
}

/// Rules between settings have a table of their own, and what a binary was built with is decided before any test runs.
#[test]
fn every_finding_about_a_server_is_provoked_by_a_test() {
    let tests = [
        include_str!("mod.rs"),
        include_str!("source.rs"),
        include_str!("broker.rs"),
        include_str!("dropped.rs"),
        include_str!("timeline.rs"),
    ];
    let tests: String = tests.concat().split_whitespace().collect();
    // Those of the broker are in tables, and in a file of their own.
    let tables = [include_str!("../broker_settings.rs"), include_str!("../broker_not_receiving.rs")].concat();
    let unprovoked: Vec<&str> = checks::ALL
        .iter()
        .filter(|check| check.part != checks::Part::Settings)
        .map(|check| check.name)
        .filter(|name| !tests.contains(&format!("has(\"{name}\"")) && !tables.contains(&format!("\"{name}")))
        .collect();
    assert_eq!(unprovoked, [""; 0]);
}
