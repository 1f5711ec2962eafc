//! Exports: asked for, made, cancelled, handed out, and all of it recorded.

use std::{fs, future};

use reqwest::{Response, StatusCode, header};
use sqlx::PgPool;
use threadline::{
    ActorRef, ActorType, StorageSchema, Timeline,
    export::{
        Destination, Format, Options, Request,
        jobs::{self, JobRequest, Worker},
    },
    query::Scope,
};
use uuid::Uuid;

use super::{Console, console::Setup, crawl::tenants};

impl Console {
    pub(super) async fn timeline(&self) -> anyhow::Result<Timeline> {
        Ok(Timeline::new(PgPool::connect(&self.database.url).await?, StorageSchema::default()))
    }

    /// Makes everything that is due.
    pub(super) async fn work(&self) -> anyhow::Result<()> {
        let worker = Worker::new(self.timeline().await?, self.folder.path().join("made")).allow(self.place());
        Ok(worker.run_until_idle(future::pending(), |_| ()).await?)
    }

    /// Asks for an export, and returns its id.
    pub(super) async fn queue(&self, form: &str) -> anyhow::Result<Uuid> {
        let id = Uuid::now_v7();
        let response = self.post("/exports/queue", &format!("form=1&id={id}&{form}")).await?;
        let (status, location) = (response.status(), response.headers().get(header::LOCATION).cloned());
        let text = response.text().await?;
        anyhow::ensure!(status == StatusCode::SEE_OTHER, "{status}: {text}");
        let location = location.unwrap();
        anyhow::ensure!(location.to_str()?.starts_with("../exports?act="), "{location:?}");
        Ok(id)
    }

    /// Names of actions of this name's actor, the oldest first.
    async fn acts(&mut self) -> anyhow::Result<Vec<String>> {
        let statement = "select name from audit_actions where name like 'audit.%' and actor_ref ->> 'id' <> 'audit' order by inserted_at, id";
        Ok(sqlx::query_scalar(statement).fetch_all(&mut self.connection).await?)
    }
}

fn own_header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn an_export_is_asked_for_made_and_handed_out_byte_by_byte() -> anyhow::Result<()> {
    let mut console = Console::after(tenants::TENANTS).await?;
    console.as_staff("MINE+export");
    let id = console.queue("q=table%3Aposts&as=ndjson&profile=full").await?;
    let waiting = console.page("/exports").await?;
    assert!(waiting.contains("waits for a worker") && waiting.contains("table:posts"), "{waiting}");
    console.work().await?;
    let listed = console.json("/exports").await?;
    assert_eq!(listed[0]["id"], id.to_string());
    assert_eq!((&listed[0]["status"], &listed[0]["format"]), (&"completed".into(), &"ndjson".into()));

    // What the command fetches is what a browser has.
    let fetched = console.folder.path().join("fetched");
    jobs::fetch(
        &console.timeline().await?,
        id,
        &threadline::storage::StorageSettings::default(),
        &fetched,
        false,
    )
    .await?;
    let response = console.get(&format!("/exports/file/{id}")).await?;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(own_header(&response, "x-content-sha256"), listed[0]["sha256"].as_str().unwrap());
    assert!(own_header(&response, "content-disposition").contains(&format!("{id}.ndjson")));
    let bytes = response.bytes().await?;
    assert_eq!(bytes, fs::read(&fetched)?);
    let text = String::from_utf8(bytes.to_vec())?;
    assert!(text.contains("MINE") && !text.contains("OTHERS"));
    let manifest = console.get(&format!("/exports/file/{id}?part=manifest")).await?.bytes().await?;
    assert_eq!(manifest, fs::read(fetched.with_added_extension("manifest.json"))?);
    let (status, html) = console.answer(&format!("/exports/file/{id}?part=signature")).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("<code>not_signed</code>"), "{html}");
    // The command names the manifest as it is downloaded.
    let response = console.get(&format!("/exports/file/{id}?part=manifest")).await?;
    let name = own_header(&response, "content-disposition");
    let name = name.trim_start_matches("attachment; filename=").trim_matches('"');
    let html = console.page("/exports").await?;
    assert!(name.ends_with(".ndjson.manifest.json"), "{name}");
    assert!(html.contains(&format!("data-copy=\"threadline export verify '{name}'\"")), "{name}: {html}");

    let acts = console.acts().await?;
    assert_eq!(
        acts,
        [
            "audit.export_requested",
            "audit.exported",
            "audit.export_downloaded",
            "audit.export_downloaded",
            "audit.export_downloaded"
        ]
    );
    // A filter may name somebody, whose name is erased from where it stands.
    let with_filter: Vec<String> = sqlx::query_scalar(
        "select name from audit_actions where name like 'audit.%' and comment like '%table:posts%'",
    )
    .fetch_all(&mut console.connection)
    .await?;
    assert_eq!(with_filter, ["audit.exported"]);
    Ok(())
}

#[tokio::test]
async fn a_form_that_is_sent_twice_is_one_export() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+export");
    let form = format!("form=1&id={}&as=csv", Uuid::now_v7());
    let first = console.post("/exports/queue", &form).await?;
    let second = console.post("/exports/queue", &form).await?;
    assert_eq!((first.status(), second.status()), (StatusCode::SEE_OTHER, StatusCode::SEE_OTHER));
    assert_eq!(console.json("/exports").await?.as_array().unwrap().len(), 1);
    assert_eq!(console.acts().await?, ["audit.export_requested"]);
    Ok(())
}

#[tokio::test]
async fn an_export_is_cancelled_by_whoever_asked_for_it_and_recorded() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+export");
    let id = console.queue("as=csv").await?;
    let response = console.post(&format!("/exports/cancel/{id}"), "form=1").await?;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let link = own_header(&response, "location").replace("../../", "/");
    assert!(console.page(&link).await?.contains("recorded as"));
    assert_eq!(console.json("/exports").await?[0]["status"], "cancelled");
    // What has ended is not cancelled again, and nothing is recorded of it.
    let again = console.post(&format!("/exports/cancel/{id}"), "form=1").await?;
    assert_eq!(again.status(), StatusCode::BAD_REQUEST);
    assert!(again.text().await?.contains("<code>job_state</code>"));
    assert_eq!(console.acts().await?, ["audit.export_requested", "audit.export_cancelled"]);
    Ok(())
}

#[tokio::test]
async fn an_export_of_somebody_else_is_as_if_it_were_not_there() -> anyhow::Result<()> {
    let mut console = Console::after(tenants::TENANTS).await?;
    let nothing = Uuid::nil();
    console.as_staff("OTHERS+export");
    let others = console.queue("as=csv").await?;
    console.work().await?;
    // Of the same actor, from a time when they saw more.
    let actor = ActorRef::new(ActorType::Admin, Some("MINE"))?;
    let request = JobRequest {
        actor: Some(actor),
        ..JobRequest::new("".parse()?, Options::default(), console.place())
    };
    let before = jobs::add(&console.timeline().await?, &Scope::everything(), &request).await?.id;
    console.work().await?;
    console.as_staff("MINE+export");
    assert_eq!(console.json("/exports").await?.as_array().unwrap().len(), 0);
    let (status, nowhere) = console.answer(&format!("/exports/file/{nothing}")).await?;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for id in [others, before] {
        let (status, text) = console.answer(&format!("/exports/file/{id}")).await?;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(text.replace(&id.to_string(), ""), nowhere.replace(&nothing.to_string(), ""));
        let cancelled = console.post(&format!("/exports/cancel/{id}"), "form=1").await?;
        assert_eq!(cancelled.status(), StatusCode::NOT_FOUND);
        // Nor does an id that is taken say more.
        let form = format!("form=1&id={id}&as=csv");
        assert_eq!(console.post("/exports/queue", &form).await?.status(), StatusCode::NOT_FOUND);
    }
    let own: Vec<String> =
        console.acts().await?.into_iter().filter(|name| name != "audit.exported").collect();
    assert_eq!(own, ["audit.export_requested"]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_exported_says_why_and_leaves_nothing() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let id = Uuid::now_v7();
    for (staff, form, term) in [
        ("everything+export", "as=xls".to_owned(), "export_options"),
        ("everything+export", "as=ocsf&profile=exact".to_owned(), "export_options"),
        ("everything+export", "q=tabel%3Ax".to_owned(), "unknown_filter"),
        ("everything+export", "q=kind%3Aaction".to_owned(), "profile_kind"),
        ("unstorable+export", "as=csv".to_owned(), "scope_not_storable"),
        ("everything+export", "id=1".to_owned(), "form_incomplete"),
        ("everything", "as=csv".to_owned(), "capability_missing"),
    ] {
        console.as_staff(staff);
        let form = if form.starts_with("id") { form } else { format!("id={id}&{form}") };
        let response = console.post("/exports/queue", &format!("form=1&{form}")).await?;
        assert!(response.status().is_client_error(), "{form}: {}", response.status());
        let text = response.text().await?;
        assert!(text.contains(&format!("<code>{term}</code>")), "{form}: {text}");
    }
    assert!(console.acts().await?.is_empty());
    assert_eq!(jobs::list(&console.timeline().await?, None, 10).await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_file_that_somebody_has_changed_is_not_handed_out_as_a_whole() -> anyhow::Result<()> {
    let mut console = Console::after(tenants::TENANTS).await?;
    console.as_staff("everything+export");
    let id = console.queue("as=csv").await?;
    console.work().await?;
    let job = jobs::get(&console.timeline().await?, id).await?.unwrap();
    let path = job.location.unwrap().parse::<threadline::storage::Location>()?.path().unwrap();
    let whole = fs::read_to_string(&path)?;
    fs::write(&path, whole.replacen("MINE", "mine", 1))?;
    let changed = console.get(&format!("/exports/file/{id}")).await?;
    // It fails before the first byte of a small file, and in the middle of a large one.
    let is_refused = changed.status() == StatusCode::BAD_REQUEST;
    let text = changed.text().await;
    assert!(
        is_refused && text.as_ref().is_ok_and(|text| text.contains("fetch_differs")) || text.is_err(),
        "{text:?}"
    );
    fs::write(&path, format!("{whole}x"))?;
    let (status, text) = console.answer(&format!("/exports/file/{id}")).await?;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("fetch_differs"), "{text}");
    fs::remove_file(&path)?;
    let (status, text) = console.answer(&format!("/exports/file/{id}")).await?;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("export_file"), "{text}");
    assert!(!text.contains(&*path.to_string_lossy()), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_small_export_comes_at_once_recorded_before_it_begins() -> anyhow::Result<()> {
    let mut console = Console::after(tenants::TENANTS).await?;
    console.as_staff("MINE+export");
    for (format, kind) in [
        (Format::Csv, "text/csv"),
        (Format::Ndjson, "application/x-ndjson"),
        (Format::Json, "application/json"),
    ] {
        let response = console.get(&format!("/exports/now?q=table%3Aposts&as={format}&profile=")).await?;
        assert_eq!(response.status(), StatusCode::OK, "{format}");
        assert!(own_header(&response, "content-type").starts_with(kind));
        let bytes = response.bytes().await?;
        let path = console.folder.path().join(format.as_str());
        let reader = console.timeline().await?.reader(Scope::of_context("tenant", "MINE"));
        let options = Options { format, ..Options::default() };
        let request = Request { is_recorded: false, ..Request::new("table:posts".parse()?, options) };
        threadline::export::export(&reader, request, Destination::file(&path)).await?;
        // The document of JSON says when it was made.
        let without_time = |text: String| match format {
            Format::Json => serde_json::from_str::<serde_json::Value>(&text).unwrap()["changes"].to_string(),
            _ => text,
        };
        let (own, other) = (String::from_utf8(bytes.to_vec())?, fs::read_to_string(&path)?);
        assert!(!own.contains("OTHERS") && own.contains("MINE"));
        assert_eq!(without_time(own), without_time(other), "{format}");
    }
    assert_eq!(console.acts().await?, ["audit.export_downloaded"; 3]);
    let evidence = || async {
        let timeline = console.timeline().await?;
        Ok::<_, anyhow::Error>(timeline.evidence().list_overview(None).await?.records.len())
    };
    sandbox::wait::until_some("evidence of what was handed over", super::DEADLINE, async || {
        Ok((evidence().await? == 3).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_too_much_at_once_is_left_to_the_background() -> anyhow::Result<()> {
    let console = Console::after(
        "with t as (insert into audit_transactions (txid, occurred_at) values (1, now()) returning id)
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select id, 'public', 'many', jsonb_build_object('id', n), 'insert', '{}' from t, generate_series(1, 10001) n",
    )
    .await?;
    let mut console = console;
    console.as_staff("everything+export");
    let (status, text) = console.answer("/exports/now?q=table%3Amany").await?;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("too_many_entries"), "{text}");
    let (status, text) = console.answer("/exports/now?q=table%3Amanny").await?;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("table_unknown"), "{text}");
    let (status, text) = console.answer("/exports/now?as=parquet").await?;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("format_not_at_once"), "{text}");
    assert!(console.acts().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_surface_that_may_not_write_shows_commands_and_does_nothing() -> anyhow::Result<()> {
    let mut console = Setup::after("").await?.reading().start().await?;
    console.as_staff("everything+export+verify+evidence");
    let html = console.page("/exports?table=posts").await?;
    assert!(
        html.contains("threadline export run --output export.csv") && !html.contains("<button>Make"),
        "{html}"
    );
    assert!(!console.page("/evidence").await?.contains("evidence/verify"));
    for path in ["/exports/queue", "/evidence/verify"] {
        let response = console.post(path, &format!("form=1&id={}", Uuid::now_v7())).await?;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(console.acts().await?.is_empty());
    Ok(())
}
