//! A surface that runs, and the timeline below it.

use std::sync::{Arc, Mutex};

use axum::{Router, routing::post};
use operator::{Authorized, Limits, Operator};
use reqwest::{Response, StatusCode, header};
use sandbox::{
    fixture::{TestDatabase, audit_events, source_database, timeline_database},
    rights::as_role,
    work_dir::WorkDir,
};
use sqlx::{Executor as _, PgConnection};
use threadline::{StorageSchema, storage::Location};
use tokio::net::TcpListener;

use super::{DEADLINE, Staff, limits};

/// A surface that runs.
pub(crate) struct Console {
    pub(crate) database: TestDatabase,
    /// The pipeline's, where it is connected to one.
    pub(crate) source: Option<TestDatabase>,
    pub(crate) connection: PgConnection,
    /// Where it is, without a slash at the end.
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    /// The cookie that is sent.
    pub(crate) staff: String,
    /// Where exports are stored and made.
    pub(crate) folder: WorkDir,
    /// What browsers have reported that its content security policy kept from being loaded.
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
}

/// One that is yet to be built.
pub(crate) struct Setup {
    database: TestDatabase,
    source: Option<TestDatabase>,
    sql: &'static str,
    /// Where `mount` puts it.
    path: &'static str,
    limits: Limits,
    /// Who reads, if not the owner.
    reader: Option<&'static str>,
    /// Whether it has no connection that may write.
    is_reading: bool,
    build: Box<dyn FnOnce(Operator<Authorized>) -> Operator<Authorized>>,
    mount: Box<dyn FnOnce(Router) -> Router>,
}

impl Setup {
    /// At the root, over a timeline after this SQL.
    pub(crate) async fn after(sql: &'static str) -> anyhow::Result<Self> {
        Ok(Self::over(timeline_database().await?).sql(sql))
    }

    /// Over any timeline.
    pub(crate) fn over(database: TestDatabase) -> Self {
        Self {
            database,
            source: None,
            sql: "",
            path: "",
            limits: limits(),
            reader: None,
            is_reading: false,
            build: Box::new(|operator| operator),
            mount: Box::new(|router| router),
        }
    }

    pub(crate) fn sql(self, sql: &'static str) -> Self {
        Self { sql, ..self }
    }

    pub(crate) fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Without a connection that may write, and a place for exports.
    pub(crate) fn reading(self) -> Self {
        Self { is_reading: true, ..self }
    }

    /// As this role.
    pub(crate) fn reader(self, role: &'static str) -> Self {
        Self { reader: Some(role), ..self }
    }

    /// Where `mount` puts it; `path` leads there.
    pub(crate) fn mounted(self, path: &'static str, mount: impl FnOnce(Router) -> Router + 'static) -> Self {
        Self { path, mount: Box::new(mount), ..self }
    }

    /// With what else a host says.
    pub(crate) fn built(
        self,
        build: impl FnOnce(Operator<Authorized>) -> Operator<Authorized> + 'static,
    ) -> Self {
        let before = self.build;
        Self { build: Box::new(|operator| build(before(operator))), ..self }
    }

    /// Beside a pipeline, of which it reads what the role may.
    pub(crate) async fn beside_a_pipeline(self, role: &str) -> anyhow::Result<Self> {
        let source = source_database().await?;
        let (reading, deciding) =
            (as_role(&source.url, role).parse()?, as_role(&source.url, "audit_decider").parse()?);
        let with_pipeline =
            self.built(|operator| operator.pipeline(reading, audit_events()).redriving(deciding));
        Ok(Self { source: Some(source), ..with_pipeline })
    }

    pub(crate) async fn start(self) -> anyhow::Result<Console> {
        let Self { database, source, sql, path, limits, reader, is_reading, build, mount } = self;
        let mut connection = database.connect().await?;
        connection.execute(sql).await?;
        let folder = WorkDir::create()?;
        std::fs::create_dir(folder.path().join("stored"))?;
        let url = reader.map_or_else(|| database.url.clone(), |role| as_role(&database.url, role));
        let mut operator = Operator::new(url.parse()?, StorageSchema::default())
            .limits(limits)
            .csp_report("/csp-reports")
            .auth(Staff);
        if !is_reading {
            let writer = as_role(&database.url, "audit_surface").parse()?;
            operator = operator.writing(writer).exports(place(&folder));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}{path}", listener.local_addr()?);
        let reports = Arc::<Mutex<Vec<String>>>::default();
        let reported = Arc::clone(&reports);
        let report = async move |report: String| reported.lock().unwrap().push(report);
        let app = Router::new()
            .route("/csp-reports", post(report))
            .fallback_service(mount(build(operator).into_service()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        // Whatever was installed first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()?;
        let staff = "everything".to_owned();
        Ok(Console { database, source, connection, url, client, staff, folder, reports })
    }
}

/// Where exports are stored.
fn place(folder: &WorkDir) -> Location {
    format!("file://{}", folder.path().join("stored").display()).parse().unwrap()
}

impl Console {
    /// At the root of a server of its own.
    pub(crate) async fn after(sql: &'static str) -> anyhow::Result<Self> {
        Setup::after(sql).await?.start().await
    }

    /// The same, with what else a host says.
    pub(crate) async fn built(
        sql: &'static str,
        build: impl FnOnce(Operator<Authorized>) -> Operator<Authorized> + 'static,
    ) -> anyhow::Result<Self> {
        Setup::after(sql).await?.built(build).start().await
    }

    /// The same beside a pipeline, of which it reads what the role may.
    pub(crate) async fn beside_a_pipeline(sql: &'static str, role: &str) -> anyhow::Result<Self> {
        Setup::after(sql).await?.beside_a_pipeline(role).await?.start().await
    }

    /// The same as somebody else sees it.
    pub(crate) fn as_staff(&mut self, staff: &str) -> &mut Self {
        staff.clone_into(&mut self.staff);
        self
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self
            .client
            .get(format!("{}{path}", self.url))
            .header(header::COOKIE, format!("staff={}", self.staff));
        Ok(request.send().await?)
    }

    /// Where exports are stored.
    pub(crate) fn place(&self) -> Location {
        place(&self.folder)
    }

    /// Sends a form.
    pub(crate) async fn post(&self, path: &str, form: &str) -> anyhow::Result<Response> {
        let request = self
            .client
            .post(format!("{}{path}", self.url))
            .header(header::COOKIE, format!("staff={}", self.staff))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned());
        Ok(request.send().await?)
    }

    /// The text of a page that is there.
    pub(crate) async fn page(&self, path: &str) -> anyhow::Result<String> {
        let response = self.get(path).await?;
        let (status, text) = (response.status(), response.text().await?);
        anyhow::ensure!(status == StatusCode::OK, "{path}: {status}: {text}");
        Ok(text)
    }

    /// The document of a page.
    pub(crate) async fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        Ok(serde_json::from_str(&self.page(&format!("{path}{separator}format=json")).await?)?)
    }

    /// The status and the text of any page.
    pub(crate) async fn answer(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let response = self.get(path).await?;
        Ok((response.status(), response.text().await?))
    }
}
