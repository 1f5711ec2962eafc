//! What tests share: one sandbox per test binary, and a fresh database for every test.

use std::sync::OnceLock;

use common::{
    database::Database,
    identifier::{TableName, quote},
    outbox,
    session::Session,
    settings::ConnectionUrl,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{Layout, StorageSchema};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{Options, Sandbox, audit, nats::Configuration, postgres::Postgres, rights};

/// The sandbox of this test binary, private whatever the environment says, with the rights of `deploy/` on its broker.
/// Never dropped: its watchdog stops the servers when the binary ends.
///
/// # Panics
/// When it cannot be started; the message says what is missing.
pub fn shared() -> &'static Sandbox {
    static SHARED: OnceLock<Sandbox> = OnceLock::new();
    SHARED.get_or_init(|| {
        Sandbox::start(&Options { nats: shared_broker(), ..Options::default() })
            .unwrap_or_else(|error| panic!("the sandbox does not start: {error:#}"))
    })
}

/// The broker counts what each stream may hold, not what it holds, against the free disk it found at its start. Hundreds of tests
/// have a stream of their own: on a small disk the last ones would be refused.
fn shared_broker() -> Configuration {
    let Configuration { text, variables } = rights::of_broker();
    Configuration { text: format!("jetstream {{ max_file_store: 1000G }}\n{text}"), variables }
}

/// A database of its own for one test.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Connection URL of its owner, who is [no superuser](rights::OWNER).
    pub url: String,
}

/// The audit table of a [`source_database`].
#[must_use]
pub fn audit_events() -> TableName {
    "public.audit_events".parse().expect("a valid constant")
}

/// A fresh database with `audit_events`, the outbox, capture attached, and the roles of `deploy/`.
///
/// # Errors
/// When the server refuses.
pub async fn source_database() -> anyhow::Result<TestDatabase> {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE
        .get_or_try_init(|| async {
            let name = format!("audit_source_{}", Uuid::new_v4().simple());
            anyhow::Ok(source_database_on(&shared().postgres, &name).await?.name())
        })
        .await?;
    fresh(Some(template)).await
}

/// A fresh database with Threadline's tables in schema `public`, and the role of `deploy/`.
///
/// # Errors
/// When the server refuses.
pub async fn timeline_database() -> anyhow::Result<TestDatabase> {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE
        .get_or_try_init(|| async {
            let name = format!("audit_timeline_{}", Uuid::new_v4().simple());
            anyhow::Ok(timeline_database_on(&shared().postgres, &name).await?.name())
        })
        .await?;
    fresh(Some(template)).await
}

/// The same on any server.
///
/// # Errors
/// When the server refuses.
pub async fn source_database_on(server: &Postgres, name: &str) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::create(server, name, None).await?;
    let mut connection = database.connect().await?;
    audit::install(&mut connection, "public").await?;
    let mut connection = Session::from(connection);
    outbox::migrate(&mut connection).await?;
    outbox::capture::attach(&mut connection, &audit_events()).await?;
    connection.close().await?;
    let mut superuser = database.superuser().await?;
    rights::grant_source(&mut superuser).await?;
    superuser.close().await?;
    Ok(database)
}

/// The same on any server.
///
/// # Errors
/// When the server refuses.
pub async fn timeline_database_on(server: &Postgres, name: &str) -> anyhow::Result<TestDatabase> {
    timeline_database_as(server, name, layout()).await
}

/// The same with changes stored in that layout.
///
/// # Errors
/// When the server refuses.
pub async fn timeline_database_as(
    server: &Postgres,
    name: &str,
    layout: Layout,
) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::create(server, name, None).await?;
    let mut connection = database.connect().await?;
    let schema = StorageSchema::default();
    threadline::install_as(&mut connection, &schema, layout).await?;
    connection.close().await?;
    let mut superuser = database.superuser().await?;
    rights::grant_timeline(&mut superuser, &schema).await?;
    superuser.close().await?;
    Ok(database)
}

/// As `PARTITIONED=1` says: changes by months, in every timeline of a test that does not say how.
fn layout() -> Layout {
    match std::env::var_os("PARTITIONED") {
        Some(value) if value == "1" => Layout::Monthly,
        _ => Layout::AsItIs,
    }
}

/// A fresh database with nothing in it.
///
/// # Errors
/// When the server refuses.
pub async fn empty_database() -> anyhow::Result<TestDatabase> {
    fresh(None).await
}

async fn fresh(template: Option<&str>) -> anyhow::Result<TestDatabase> {
    let name = format!("audit_test_{}", Uuid::new_v4().simple());
    TestDatabase::create(&shared().postgres, &name, template).await
}

impl TestDatabase {
    /// A database of that name; the template must not be in use.
    async fn create(server: &Postgres, name: &str, template: Option<&str>) -> anyhow::Result<Self> {
        let created = Self::of_owner(&server.create_database(name, template).await?);
        created.hand_over().await?;
        Ok(created)
    }

    /// A database that is there, as its owner sees it.
    #[must_use]
    pub fn of_owner(url: &str) -> Self {
        Self { url: rights::as_role(url, rights::OWNER) }
    }

    /// Gives the database to the owner; what is in it keeps its own.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn hand_over(&self) -> anyhow::Result<()> {
        let mut superuser = self.superuser().await?;
        rights::create_owner(&mut superuser).await?;
        let owned = format!("alter database {} owner to {}", quote(&self.name()), rights::OWNER);
        superuser.execute(AssertSqlSafe(owned)).await?;
        Ok(superuser.close().await?)
    }

    /// A superuser's connection.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn superuser(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&rights::as_superuser(&self.url)).await?)
    }

    /// A plain connection, as an application has it: the server's own time zone and settings.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// The same, for functions of the pipeline.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn session(&self) -> anyhow::Result<Session> {
        Ok(self.connect().await?.into())
    }

    /// As the pipeline connects.
    ///
    /// # Panics
    /// Never: the URL is our own.
    #[must_use]
    pub fn database(&self) -> Database {
        let url = ConnectionUrl::new(&*self.url);
        Database::new(&url, "test", std::time::Duration::from_secs(60), false).expect("the URL is our own")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.url.rsplit('/').next().unwrap_or_default().to_owned()
    }
}
