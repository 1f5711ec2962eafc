//! Events of OCSF: each kind of entry as it is kept, and all of them by the published schema.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::export::{ExportError, Format, Options, Profile};

use super::{Read, exported, folder, options, readers::reader, threadline};

/// Each kind of entry and each op.
const SAMPLE: &str = include_str!("sample.sql");

/// Actors, statuses, names and times of all kinds, and what is missing wherever something may be.
const MIXED: &str = r#"
    insert into audit_actions (name, actor_ref, status, verb, category, reason, request_id, inserted_at)
    select name, actor_ref::jsonb, status, verb, 'a category', 'a reason', request_id, at
    from unnest(array['auth.login.success', 'auth.login.failure', 'auth.logout', 'session.create', 'paid', '', E'a\n"b".create', repeat('x', 3000)]) name,
         unnest(array['{"type": "user", "id": "u1"}', '{"type": "admin", "id": ""}', '{"type": "service_account", "id": "s"}', '{"type": "job", "id": "j"}',
                      '{"type": "system", "id": "y"}', '{"type": "anonymous"}', '{}', '[]', '{"type": "robot", "id": 7}', '{"id": "ü"}']) actor_ref,
         unnest(array['ok', 'error']) status,
         unnest(array[null, 'read', 'update', 'delete.failure', 'pay', '']) verb,
         unnest(array[null, 'r-1']) request_id,
         unnest(array['2026-05-15 12:00:00.999999Z', '1969-12-31 23:59:59.9995Z', 'infinity', '-infinity']::timestamptz[]) at;
    insert into audit_transactions (id, txid, actor_ref, source)
    select md5(n::text)::uuid, 100 + n, case n % 3 when 0 then null when 1 then '{"type": "job", "id": "j"}' else '{"type": "anonymous"}' end::jsonb,
           case when n % 2 = 0 then 'web' end
    from generate_series(1, 12) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select md5(n::text)::uuid, 'public', 'a table', '{"id": "1"}', op, '{"n": 123456789012345678901234567890.10, "deep": [[{"a": null}]]}', '2026-05-15 12:00:00Z'
    from generate_series(1, 12) n, unnest(array['insert', 'update', 'delete', 'truncate']) op"#;

/// Says of each line whether it is an event of the release that it names, with all of its members known, of their types and of allowed values.
const VALIDATE: &str = r"import json, re, sys
import fastjsonschema
from ocsf_json_schema import OcsfJsonSchema, OcsfJsonSchemaEmbedded, get_ocsf_schema
def supported(node):
    # The validator misreads a dollar sign within brackets, which patterns of attributes that we do not write have.
    if isinstance(node, dict):
        if isinstance(node.get('pattern'), str):
            try: re.compile(node['pattern'].replace('$', r'\Z'))
            except re.error: del node['pattern']
        for value in node.values(): supported(value)
    return node
schemas, checks = {}, {}
for line in open(sys.argv[1], encoding='utf-8'):
    event = json.loads(line)
    release = event['metadata']['version']
    if release not in schemas: schemas[release] = OcsfJsonSchemaEmbedded(OcsfJsonSchema(get_ocsf_schema(release)))
    embedded = schemas[release]
    key = (release, event['class_uid'], tuple(event['metadata']['profiles']))
    if key not in checks:
        name = embedded.lookup_class_name_from_uid(event['class_uid'])
        checks[key] = fastjsonschema.compile(supported(embedded.get_class_schema(name, list(key[2]))))
    try:
        checks[key](event)
        name = embedded.lookup_class_name_from_uid(event['class_uid'])
        of = embedded.schema.schema['classes'][name]['attributes']
        for member, sibling in [('activity_id', 'activity_name'), ('status_id', 'status'), ('severity_id', 'severity'), ('class_uid', 'class_name'), ('category_uid', 'category_name')]:
            caption = of[member]['enum'][str(event[member])]['caption']
            assert event[member] == 99 or event[sibling] == caption, (member, caption)
        print('valid')
    except (fastjsonschema.JsonSchemaException, AssertionError) as error:
        print('fault', str(error)[:300].replace('\n', ' '))
";

fn validate(packages: &PathBuf, events: &str) -> anyhow::Result<Vec<String>> {
    let (_folder, path) = folder()?;
    let file = path.join("read.ndjson");
    fs::write(&file, events)?;
    let ran =
        Command::new("python3").arg("-c").arg(VALIDATE).arg(&file).env("PYTHONPATH", packages).output()?;
    anyhow::ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Ok(String::from_utf8(ran.stdout)?.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn each_kind_of_entry_is_the_event_that_is_kept() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let (text, done) = exported(&read.reader(), "", options(Profile::Full, Format::Ocsf)).await?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/handover/answers/ocsf.ndjson");
    let text =
        text.replace(&format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION")), "\"version\":\"OURS\"");
    if std::env::var_os("UPDATE_ANSWERS").is_some() {
        fs::write(&path, &text)?;
    }
    assert_eq!(text, fs::read_to_string(&path)?, "{}", path.display());
    for line in text.lines() {
        let event: Value = serde_json::from_str(line)?;
        for (name, _) in event.as_object().unwrap() {
            assert!(done.manifest.columns.contains(name), "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_event_is_valid_by_the_published_schema() -> anyhow::Result<()> {
    let Some(packages) = reader("ocsf")? else { return Ok(()) };
    let read = Read::after(SAMPLE).await?;
    read.database.connect().await?.execute(MIXED).await?;
    let (text, done) = exported(&read.reader(), "", options(Profile::Full, Format::Ocsf)).await?;
    let said = validate(&packages, &text)?;
    assert_eq!(said.len() as u64, done.manifest.rows.total());
    assert!(done.manifest.rows.action > 3_000 && done.manifest.rows.change > 40, "{:?}", done.manifest.rows);
    let faults: Vec<_> = said.iter().zip(text.lines()).filter(|(said, _)| *said != "valid").take(3).collect();
    assert!(faults.is_empty(), "{faults:?}");
    // What is not valid is seen.
    let event: Value = serde_json::from_str(text.lines().next().unwrap())?;
    let mut wrong = Vec::new();
    for (member, value) in [
        ("activity_id", json!(42)),
        ("time", json!("2026-05-15T12:00:00Z")),
        ("actor", json!({})),
        ("type_uid", json!(1)),
        ("not_of_the_schema", json!(1)),
        ("severity", json!("Fatal")),
    ] {
        let mut event = event.clone();
        event[member] = value;
        wrong.push(event.to_string());
    }
    let said = validate(&packages, &wrong.join("\n"))?;
    assert!(said.len() == 6 && said.iter().all(|said| said.starts_with("fault")), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn events_hold_every_entry_of_a_full_export_and_every_digit() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let (events, _) = exported(&read.reader(), "", options(Profile::Full, Format::Ocsf)).await?;
    let (entries, _) = exported(&read.reader(), "", options(Profile::Full, Format::Ndjson)).await?;
    assert_eq!(events.lines().count(), entries.lines().count());
    for (event, entry) in events.lines().zip(entries.lines()) {
        assert!(!entry.contains("12345678901234567890.10") || event.contains("12345678901234567890.10"));
        let (event, entry): (Value, Value) = (serde_json::from_str(event)?, serde_json::from_str(entry)?);
        assert_eq!(event["metadata"]["uid"], entry["id"]);
        let unmapped = &event["unmapped"];
        // What is not among the unmapped stands where the page says.
        let elsewhere = json!({
            "id": event["metadata"]["uid"], "captured_at": event["time_dt"], "inserted_at": event["time_dt"],
            "position": event["metadata"]["sequence"], "name": event["message"], "status": event["status_code"],
            "reason": event["status_detail"], "correlation_id": event["metadata"]["correlation_uid"],
            "request_id": event["api"]["request"]["uid"],
        });
        for (name, value) in entry.as_object().unwrap() {
            if let ("table_schema" | "table_name", Some(table)) =
                (name.as_str(), event["table"]["name"].as_str())
            {
                assert!(table.contains(value.as_str().unwrap()), "{event}");
            } else if unmapped[name].is_null() {
                assert_eq!(elsewhere[name], *value, "{name}: {event}");
            } else {
                assert_eq!(unmapped[name], *value, "{name}: {event}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_format_implies_full_and_has_its_names_of_files() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let (_folder, path) = folder()?;
    for name in ["a.ocsf", "a.ocsf.ndjson"] {
        let ended = threadline(&read.database, &path, &["export", "run", "-o", name, "--unrecorded"])?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let manifest = format!("{name}.manifest.json");
        let said: Value = serde_json::from_slice(&fs::read(path.join(&manifest))?)?;
        assert_eq!((&said["format"], &said["profile"]), (&json!("ocsf"), &json!("full")));
        let verified = threadline(&read.database, &path, &["export", "verify", &manifest])?;
        assert!(verified.out.starts_with("holds: 6 rows"), "{verified:?}");
    }
    let asked = ["export", "run", "-o", "b.ocsf", "--profile", "exact"];
    let refused = threadline(&read.database, &path, &asked)?;
    assert!(refused.status == Some(2) && refused.error.contains("export_options"), "{refused:?}");
    let exact = Options { profile: Profile::Exact, ..options(Profile::Exact, Format::Ocsf) };
    let refused = exported(&read.reader(), "", exact).await.unwrap_err();
    assert!(matches!(refused, ExportError::Refused { term: "export_options", .. }), "{refused:?}");
    Ok(())
}
