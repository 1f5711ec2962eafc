//! Exports as other programs read them: CSV by Python, cell by cell beside the same entries as JSON; the signature by openssl.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use threadline::{
    export::{Destination, Format, Options, Profile, Request, export},
    signing::SigningKey,
};

use super::{Read, exported, folder, library::library_database, options, tenants::TENANTS};

/// Prints each record as a JSON list of its cells.
const RECORDS: &str = "import csv, json, sys
csv.field_size_limit(1 << 30)
for record in csv.reader(open(sys.argv[1], newline='', encoding='utf-8'), strict=True): print(json.dumps(record))";

fn records(csv: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let (_folder, path) = folder()?;
    let file = path.join("read.csv");
    fs::write(&file, csv)?;
    let ran = Command::new("python3").arg("-c").arg(RECORDS).arg(&file).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(ran.status.success(), "python3 cannot read it");
    let text = String::from_utf8(ran.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The columns of a record by their names.
fn cells<'r>(header: &'r [String], record: &'r [String]) -> impl Fn(&str) -> &'r str {
    assert_eq!(header.len(), record.len());
    move |name| &record[header.iter().position(|column| column == name).unwrap()]
}

fn document(cell: &str) -> Value {
    serde_json::from_str(cell).unwrap()
}

#[tokio::test]
async fn python_reads_in_each_cell_of_csv_what_stands_in_json() -> anyhow::Result<()> {
    for read in [library_database().await?, Read::after(TENANTS).await?] {
        let reader = read.reader();
        let (csv, _) = exported(&reader, "", options(Profile::Exact, Format::Csv)).await?;
        let (json, _) = exported(&reader, "", options(Profile::Exact, Format::Ndjson)).await?;
        let records = records(&csv)?;
        let changes: Vec<Value> = json.lines().map(document).collect();
        assert_eq!(records.len(), changes.len() + 1);
        for (record, change) in records[1..].iter().zip(&changes) {
            let cell = cells(&records[0], record);
            for name in ["id", "transaction_id", "table_schema", "table_name", "op", "captured_at"] {
                assert_eq!(cell(name), change[name], "{change}");
            }
            for name in ["table_pk", "changed_fields", "changed_from"] {
                assert_eq!(document(cell(name)), change[name], "{change}");
            }
            assert_eq!(document(cell("transaction_json")), change["transaction"], "{change}");
            let image =
                if change["data_after"].is_null() { "{}".into() } else { change["data_after"].to_string() };
            assert_eq!(document(cell("data_after")), document(&image), "{change}");
        }
    }
    Ok(())
}

/// Columns that hold documents or lists.
const DOCUMENTS: [&str; 11] = [
    "table_pk",
    "key_before",
    "data_after",
    "data_before",
    "changed_fields",
    "changed_from",
    "json_nulls",
    "transaction_actor",
    "meta",
    "context",
    "action_actor",
];

/// That a cell holds a value; nothing where there is none.
fn assert_cell(column: &str, cell: &str, value: &Value, entry: &Value) {
    match value {
        Value::Null => assert_eq!(cell, "", "{column}: {entry}"),
        value if DOCUMENTS.contains(&column) => assert_eq!(document(cell), *value, "{column}: {entry}"),
        Value::String(text) => assert_eq!(cell, text, "{column}: {entry}"),
        value => assert_eq!(cell, value.to_string(), "{column}: {entry}"),
    }
}

#[tokio::test]
async fn python_reads_in_each_cell_of_a_full_export_what_stands_in_json() -> anyhow::Result<()> {
    for read in [library_database().await?, Read::after(TENANTS).await?] {
        let reader = read.reader();
        let (csv, _) = exported(&reader, "", options(Profile::Full, Format::Csv)).await?;
        let (json, _) = exported(&reader, "", options(Profile::Full, Format::Ndjson)).await?;
        let records = records(&csv)?;
        let entries: Vec<Value> = json.lines().map(document).collect();
        assert_eq!(records.len(), entries.len() + 1);
        for (record, entry) in records[1..].iter().zip(&entries) {
            let cell = cells(&records[0], record);
            let is_change = entry["kind"] == "change";
            assert_eq!(cell("kind"), entry["kind"]);
            assert_eq!(cell("id"), entry["id"]);
            assert_eq!(cell("at"), entry[if is_change { "captured_at" } else { "inserted_at" }]);
            for name in [
                "table_schema",
                "table_name",
                "partition",
                "table_pk",
                "key_before",
                "op",
                "data_after",
                "data_before",
                "changed_fields",
                "changed_from",
                "json_nulls",
                "position",
            ] {
                assert_cell(name, cell(name), &entry[if is_change { name } else { "absent" }], entry);
            }
            let transaction = &entry["transaction"];
            assert_cell("transaction_id", cell("transaction_id"), &transaction["id"], entry);
            for (column, name) in [
                ("txid", "txid"),
                ("occurred_at", "occurred_at"),
                ("transaction_actor", "actor_ref"),
                ("source", "source"),
                ("transaction_correlation_id", "correlation_id"),
                ("transaction_request_id", "request_id"),
                ("transaction_job_id", "job_id"),
                ("meta", "meta"),
                ("context", "context"),
            ] {
                assert_cell(column, cell(column), &transaction[name], entry);
            }
            let action = if is_change { &entry["action"] } else { entry };
            for (column, name) in [
                ("action_id", "id"),
                ("action_name", "name"),
                ("action_actor", "actor_ref"),
                ("action_status", "status"),
                ("action_verb", "verb"),
                ("action_category", "category"),
                ("action_reason", "reason"),
                ("action_comment", "comment"),
                ("action_correlation_id", "correlation_id"),
                ("action_request_id", "request_id"),
                ("action_job_id", "job_id"),
                ("action_inserted_at", "inserted_at"),
            ] {
                assert_cell(column, cell(column), &action[name], entry);
            }
        }
    }
    Ok(())
}

/// Runs openssl; none where there is none.
fn openssl(folder: &Path, arguments: &[&str]) -> anyhow::Result<Option<std::process::Output>> {
    match Command::new("openssl").args(arguments).current_dir(folder).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        ran => Ok(Some(ran?)),
    }
}

#[tokio::test]
async fn openssl_checks_the_signature_without_us() -> anyhow::Result<()> {
    let (_folder, path) = folder()?;
    let Some(made) = openssl(&path, &["genpkey", "-algorithm", "ed25519", "-out", "key.pem"])? else {
        anyhow::ensure!(std::env::var("CI").as_deref() != Ok("true"), "there is no openssl");
        // Not by a macro, whose output of a test that passes nobody sees.
        writeln!(std::io::stderr(), "\n###### NOT TESTED with openssl: it is not here ######\n")?;
        return Ok(());
    };
    anyhow::ensure!(made.status.success(), "{made:?}");
    let read = Read::after(TENANTS).await?;
    let key = Some(SigningKey::read(&path.join("key.pem"))?);
    let request = Request { key, ..Request::new("".parse()?, Options::default()) };
    export(&read.reader(), request, Destination::file(path.join("all.csv"))).await?;
    openssl(&path, &["pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"])?;
    let check = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "pub.pem",
        "-rawin",
        "-in",
        "all.csv.manifest.json",
        "-sigfile",
        "all.csv.manifest.sig",
    ];
    let checked = openssl(&path, &check)?.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let manifest = path.join("all.csv.manifest.json");
    let edited = fs::read_to_string(&manifest)?.replace("\"change\":80", "\"change\":81");
    fs::write(&manifest, edited)?;
    assert!(!openssl(&path, &check)?.unwrap().status.success());
    Ok(())
}
