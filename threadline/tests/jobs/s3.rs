//! Exports in an object store.

use std::{fs, net::SocketAddr, sync::Arc};

use sandbox::{
    proxy::{Flow, Proxy},
    wait,
};
use serde_json::Value;
use threadline::{
    export::jobs::{self, JobRequest, Outcome, Worker},
    query::Scope,
    storage::{Location, Storage, StorageSettings},
};
use uuid::Uuid;

use super::{
    DEADLINE, Jobs, attempt,
    object_store::{BUCKET, KEY, ObjectStore, SECRET},
    tenants::TENANTS,
    work,
};

fn place(prefix: &str) -> Location {
    format!("s3://{BUCKET}/{prefix}").parse().unwrap()
}

fn credentials(jobs: &Jobs, secret: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = jobs.path("credentials");
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n");
    fs::write(&path, text)?;
    Ok(path)
}

fn settings(jobs: &Jobs, port: u16) -> anyhow::Result<StorageSettings> {
    Ok(StorageSettings {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        allow_http: true,
        credentials_file: Some(credentials(jobs, SECRET)?),
        ..StorageSettings::default()
    })
}

fn worker(jobs: &Jobs, folder: &str, port: u16) -> anyhow::Result<Worker> {
    Ok(Worker::new(jobs.timeline.clone(), jobs.path(folder))
        .storage(settings(jobs, port)?)
        .allow(place("audit")))
}

async fn add(jobs: &Jobs, filter: &str) -> anyhow::Result<Uuid> {
    let request = JobRequest { storage: place("audit"), ..jobs.request(filter) };
    Ok(jobs::add(&jobs.timeline, &Scope::everything(), &request).await?.id)
}

fn names(id: Uuid, generation: i32) -> Vec<String> {
    super::names(id, generation).into_iter().map(|name| format!("audit/{name}")).collect()
}

#[tokio::test]
async fn what_was_stored_is_fetched_replaced_and_deleted_in_one_part_and_in_several() -> anyhow::Result<()> {
    let jobs = Jobs::after("select 1").await?;
    let store = ObjectStore::start(&jobs.folder, &[])?;
    let settings = settings(&jobs, store.port)?;
    let storage = Storage::open(&place("a/b"), &settings)?;
    let (from, to) = (jobs.path("from"), jobs.path("to"));
    for length in [0, 8 << 20, (8 << 20) + 1] {
        let bytes: Vec<u8> =
            (0..length).map(|n: usize| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        fs::write(&from, &bytes)?;
        assert!(!storage.exists("c/d").await?);
        fs::write(jobs.path("before"), "before")?;
        storage.put("c/d", &jobs.path("before")).await?;
        storage.put("c/d", &from).await?;
        assert!(storage.exists("c/d").await?);
        assert_eq!(store.objects()?, ["a/b/c/d"]);
        assert_eq!(storage.get("c/d", &to).await?, bytes.len() as u64);
        assert!(fs::read(&to)? == bytes, "{length}");
        fs::remove_file(&to)?;
        storage.delete("c/d").await?;
        storage.delete("c/d").await?;
        assert_eq!(storage.get("c/d", &to).await.unwrap_err().term(), "storage_missing");
        assert!(!to.exists());
    }
    for name in ["../c", "c/../d", "/c", "", "c//d"] {
        assert!(storage.put(name, &from).await.is_err(), "{name}");
    }
    assert!(!format!("{storage:?} {settings:?}").contains(SECRET));
    Ok(())
}

#[tokio::test]
async fn a_job_is_stored_in_a_bucket_fetched_and_deleted_after_its_time() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let store = ObjectStore::start(&jobs.folder, &[])?;
    credentials(&jobs, SECRET)?;
    let text = format!(
        "[export.storage]\nlocation = \"s3://{BUCKET}/audit\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\ncredentials_file = \"credentials\"\n",
        store.port
    );
    fs::write(jobs.path("audit.toml"), text)?;
    let ran = jobs.threadline(&["export", "run", "op:update", "-o", "run.csv", "--unrecorded"])?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let ran =
        jobs.threadline(&["export", "jobs", "add", "op:update", "--now", "--directory", "made", "--json"])?;
    assert_eq!((ran.status, ran.error.as_str()), (Some(0), ""), "{ran:?}");
    let job: Value = serde_json::from_str(&ran.out)?;
    let id = job["id"].as_str().unwrap();
    let export = format!("audit/{id}/1/{id}.csv");
    assert_eq!(job["location"], format!("s3://{BUCKET}/{export}"));
    assert_eq!(store.objects()?, [export.clone(), format!("{export}.manifest.json")]);
    let ran = jobs.threadline(&["export", "jobs", "fetch", id, "-o", "fetched.csv"])?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(fs::read(jobs.path("fetched.csv"))?, fs::read(jobs.path("run.csv"))?);
    jobs.execute("update threadline_export_jobs set keep_until = now() - interval '1 second'").await?;
    let ran = jobs.threadline(&["export", "jobs", "clean", "--json"])?;
    assert_eq!((ran.status, ran.out.trim()), (Some(0), r#"{"deleted":1,"kept":0}"#), "{ran:?}");
    assert_eq!(store.objects()?, Vec::<String>::new());
    assert_eq!(jobs.job(id.parse()?).await?.status, "expired");
    Ok(())
}

#[tokio::test]
async fn a_store_that_refuses_or_is_away_is_said_without_its_key() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let store = ObjectStore::start(&jobs.folder, &[])?;
    let port = store.port;
    let id = add(&jobs, "op:update").await?;
    let wrong = worker(&jobs, "made", port)?;
    credentials(&jobs, "hunter2 and wrong")?;
    let ended = work(&wrong).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    assert!(error.starts_with("storage_denied: ") && !error.contains("hunter2"), "{error}");
    drop(store);
    let worker = worker(&jobs, "made", port)?;
    jobs.time_passes().await?;
    let ended = work(&worker).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    assert!(error.starts_with("storage_unavailable: ") && !error.contains("hunter2"), "{error}");
    let store = ObjectStore::start_at(&jobs.folder, port, &[])?;
    jobs.time_passes().await?;
    let ended = work(&worker).await?;
    assert!(matches!(ended[0].outcome, Outcome::Completed { rows: 40, .. }), "{ended:?}");
    assert_eq!(store.objects()?, names(id, 3));
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 1, "it was made once");
    // A bucket that there is not.
    let nowhere: Location = "s3://nowhere/audit".parse()?;
    let request = JobRequest { storage: nowhere.clone(), ..jobs.request("") };
    jobs::add(&jobs.timeline, &Scope::everything(), &request).await?;
    let ended = work(&worker.allow(nowhere)).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    assert!(error.starts_with("storage_missing: ") && error.contains("NoSuchBucket"), "{error}");
    Ok(())
}

/// None of them ends the process: the job says so, and the next one is made.
#[tokio::test]
async fn settings_that_no_request_can_be_made_of_are_refused_at_once() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let good = settings(&jobs, 1)?;
    let endpoint = |endpoint: &str| StorageSettings { endpoint: Some(endpoint.to_owned()), ..good.clone() };
    let mut refused = Vec::new();
    for text in [
        "http://[::bad",
        "http://",
        "http://a b",
        "http://a\u{1}",
        "http://a/?b",
        "http://:80",
        "http://a:port",
        "http://é",
    ] {
        refused.push((endpoint(text), "storage_endpoint"));
    }
    for region in ["", "eu\n", "eu central", "eu/1"] {
        refused.push((StorageSettings { region: Some(region.to_owned()), ..good.clone() }, "storage_region"));
    }
    for (n, (key, secret)) in
        [("AKID\u{1}", SECRET), ("AK ID", SECRET), (KEY, "a\u{1}b"), ("AKIDÉ", SECRET)].iter().enumerate()
    {
        let path = jobs.path(&format!("credentials{n}"));
        fs::write(
            &path,
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"),
        )?;
        refused.push((StorageSettings { credentials_file: Some(path), ..good.clone() }, "credentials_file"));
    }
    for (settings, term) in refused {
        let id = add(&jobs, "op:update").await?;
        let worker =
            Worker::new(jobs.timeline.clone(), jobs.path("made")).storage(settings).allow(place("audit"));
        let ended = work(&worker).await?;
        assert_eq!((ended.len(), ended[0].job), (1, id));
        let Outcome::Failed { error } = &ended[0].outcome else { panic!("{ended:?}") };
        assert!(error.starts_with(&format!("{term}: ")) && !error.contains(SECRET), "{error}");
    }
    Ok(())
}

/// The first worker has stored the export, and has not heard of it, when it loses its job.
#[tokio::test]
async fn a_worker_that_loses_its_job_while_it_stores_leaves_nothing_beside_the_next_one() -> anyhow::Result<()>
{
    let mut jobs = Jobs::after(TENANTS).await?;
    let store = ObjectStore::start(&jobs.folder, &[])?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], store.port))).await?;
    proxy.set(Flow::HoldToClient);
    let id = add(&jobs, "op:update").await?;
    let first = attempt(&Arc::new(worker(&jobs, "made0", proxy.address().port())?));
    wait::until_some("the first worker to store the export", DEADLINE, async || {
        // A folder that goes while it is read is looked at again.
        Ok(store.objects().ok().filter(|there| *there == names(id, 1)[..1]))
    })
    .await?;
    jobs.time_passes().await?;
    let ended = work(&worker(&jobs, "made1", store.port)?).await?;
    assert!(matches!(ended[0].outcome, Outcome::Completed { .. }), "{ended:?}");
    proxy.set(Flow::Open);
    assert_eq!(tokio::time::timeout(DEADLINE, first).await??, Outcome::Lost);
    assert_eq!(store.objects()?, names(id, 2));
    let job = jobs.job(id).await?;
    assert_eq!(job.location.unwrap(), format!("s3://{BUCKET}/{}", names(id, 2)[0]));
    Ok(())
}

/// As the host's own certificates are: the system's, or those that `SSL_CERT_FILE` names.
#[tokio::test]
async fn a_store_is_spoken_to_over_tls_that_somebody_vouches_for() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(jobs.folder.path())
        .output()?;
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| jobs.path(name).display().to_string();
    let store = ObjectStore::start(&jobs.folder, &["--cert", &file("tls.pem"), "--key", &file("tls.key")])?;
    credentials(&jobs, SECRET)?;
    let endpoint = |scheme: &str, more: &str| {
        let text = format!(
            "[export.storage]\nlocation = \"s3://{BUCKET}/audit\"\nendpoint = \"{scheme}://localhost:{}\"\ncredentials_file = \"credentials\"\n{more}",
            store.port
        );
        fs::write(jobs.path("audit.toml"), text)
    };
    let add = ["export", "jobs", "add", "op:update", "--now", "--directory", "made"];
    endpoint("http", "")?;
    let ran = jobs.threadline(&add)?;
    assert!(ran.status == Some(1) && ran.out.contains("plain_http: "), "{ran:?}");
    endpoint("https", "")?;
    let ran = jobs.threadline(&add)?;
    assert!(ran.status == Some(1) && ran.error.contains("storage_unavailable: "), "{ran:?}");
    let mut trusting = jobs.command(&add);
    let ran = sandbox::process::complete(trusting.env("SSL_CERT_FILE", file("tls.pem")))?;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(store.objects()?.len(), 2);
    Ok(())
}
