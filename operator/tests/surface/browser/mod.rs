//! The surface in a real browser: what is drawn, what keys and clicks do, and that everybody can use it.

mod accessibility;
mod closed;
mod documentation;
mod following;
mod handed;
mod keyboard;
mod layout;
mod list;
mod pages;
mod policy;
mod preferences;
mod printed;
mod saved;
mod scriptless;
mod states;

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource as _, KeyAction, KeyActions},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use sandbox::{chromedriver::ChromeDriver, fixture::shared, wait};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::{ParseError, Url};
use uuid::Uuid;

use super::{Console, pipeline};

/// As long as a browser may take for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// A shop: what is to be looked at here.
const SHOP: &str = include_str!("../shop.sql");

/// Somebody who may see everything there is.
const STAFF: &str = "everything+views+export+coverage+policies+evidence+pipeline+verify+redrive";

/// Every page there is, with what it shows of the shop: a new one is to be named here, so that it is looked at as all others are.
const PAGES: &[(&str, &str)] = &[
    ("home", "/"),
    ("timeline", "/timeline?last=24h"),
    ("timeline-filtered", "/timeline?table=orders&op=update&last=30d&size=10"),
    ("timeline-grouped", "/timeline?group=1&size=20"),
    ("timeline-empty", "/timeline?table=nothing&last=1h"),
    ("count", "/timeline/count?table=orders"),
    ("transaction", "/transactions/ID:transaction7"),
    ("transaction-of-many", "/transactions/ID:transaction1"),
    ("incident", "/incidents/ID:transaction8"),
    ("action", "/actions/ID:action4"),
    ("row", "/row?table=orders&key=4310"),
    ("row-unknown", "/row?table=orders&key=1"),
    ("actor", "/actor?actor=user:mara"),
    ("correlation", "/correlation?correlation=cart-9d1"),
    ("row-as-of", "/row?table=orders&key=4310&at=2026-01-01T00:00:00Z"),
    ("saved", "/saved"),
    ("exports", "/exports?table=orders"),
    ("coverage", "/coverage"),
    ("checks", "/coverage/checks"),
    ("redaction", "/policy/redaction"),
    ("retention", "/policy/retention"),
    ("evidence", "/evidence"),
    ("pipeline", "/pipeline"),
    ("failures", "/pipeline/failures"),
    ("failure", "/pipeline/failure?event=FAILED"),
    ("redrive", "/pipeline/redrive?event=FAILED"),
    ("event", "/events/FAILED"),
    ("help", "/help"),
    ("search-nothing", "/search?q=00000000-0000-4000-8000-000000000000"),
];

/// The shop beside its pipeline, in which an event cannot be delivered.
struct Shop {
    console: Console,
    failed: Uuid,
}

impl Shop {
    async fn open() -> anyhow::Result<Self> {
        let console = Console::beside_a_pipeline(SHOP, "audit_decider").await?;
        let source = console.source.as_ref().context("there is a source")?;
        let failed = pipeline::dead(source, "order.refunded", "connection refused").await?;
        Ok(Self { console, failed })
    }

    /// The path of a page, with the ids that it names.
    async fn path(&self, page: &str) -> anyhow::Result<String> {
        let page = page.replace("FAILED", &self.failed.to_string());
        let Some((before, name)) = page.split_once("ID:") else { return Ok(page) };
        let id: Uuid = sqlx::query_scalar("select md5($1)::uuid")
            .bind(name)
            .fetch_one(&mut self.console.database.connect().await?)
            .await?;
        Ok(format!("{before}{id}"))
    }
}

/// Browsers at a time: each takes a processor.
static TURNS: Semaphore = Semaphore::const_new(2);

fn driver() -> &'static ChromeDriver {
    static DRIVER: OnceLock<ChromeDriver> = OnceLock::new();
    DRIVER.get_or_init(|| ChromeDriver::start(&shared().work_dir).unwrap())
}

/// A browser with a fresh profile, in which somebody is logged in to a surface.
struct Browser {
    client: Client,
    url: String,
    reports: Arc<Mutex<Vec<String>>>,
    scripts: bool,
    _turn: SemaphorePermit<'static>,
}

impl Browser {
    async fn open(console: &Console) -> anyhow::Result<Self> {
        Self::with(console, STAFF, true).await
    }

    /// As somebody, and with scripts or without.
    async fn with(console: &Console, staff: &str, scripts: bool) -> anyhow::Result<Self> {
        let turn = TURNS.acquire().await?;
        let driver = driver();
        let Value::Object(capabilities) = driver.capabilities(scripts)? else {
            anyhow::bail!("capabilities are an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.url())
            .await?;
        let browser = Self {
            client,
            url: console.url.clone(),
            reports: Arc::clone(&console.reports),
            scripts,
            _turn: turn,
        };
        browser
            .devtools(
                "Network.setCookie",
                json!({"name": "staff", "value": staff, "url": format!("{}/", console.url)}),
            )
            .await?;
        browser.resize(1440).await?;
        Ok(browser)
    }

    /// Opens a page of the surface, and waits until its script has run.
    async fn visit(&self, path: &str) -> anyhow::Result<()> {
        self.client.goto(&format!("{}{path}", self.url)).await?;
        self.ready().await
    }

    /// Waits until the page's script has run.
    async fn ready(&self) -> anyhow::Result<()> {
        if self.scripts {
            self.until("the script to have run", "document.body?.dataset.ready === 'yes'").await?;
        }
        Ok(())
    }

    /// Shows what is folded away.
    async fn unfold(&self) -> anyhow::Result<()> {
        let unfold = "document.querySelectorAll('details').forEach(details => { details.open = true; })";
        self.client.execute(unfold, Vec::new()).await?;
        Ok(())
    }

    /// How wide the page is, in pixels.
    async fn resize(&self, width: u32) -> anyhow::Result<()> {
        self.frame(width, 1000).await
    }

    /// How much of a page a picture shows, in pixels.
    async fn frame(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
        Ok(())
    }

    /// Which colours the browser's system has: `light` or `dark`.
    async fn colours(&self, scheme: &str) -> anyhow::Result<()> {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    async fn find(&self, css: &str) -> anyhow::Result<Element> {
        let wait = self.client.wait().at_most(DEADLINE).every(Duration::from_millis(20));
        wait.for_element(Locator::Css(css)).await.with_context(|| css.to_owned())
    }

    async fn text(&self, css: &str) -> anyhow::Result<String> {
        Ok(self.find(css).await?.text().await?)
    }

    async fn click(&self, css: &str) -> anyhow::Result<()> {
        self.find(css).await?.click().await.with_context(|| css.to_owned())
    }

    async fn type_into(&self, css: &str, text: &str) -> anyhow::Result<()> {
        Ok(self.find(css).await?.send_keys(text).await?)
    }

    /// Presses keys, one after the other, wherever the focus is.
    async fn press(&self, keys: &str) -> anyhow::Result<()> {
        let actions = keys.chars().fold(KeyActions::new("keyboard".to_owned()), |actions, value| {
            actions.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        Ok(self.client.perform_actions(actions).await?)
    }

    /// The value of an expression.
    async fn value(&self, expression: &str) -> anyhow::Result<Value> {
        self.client
            .execute(&format!("return {expression}"), Vec::new())
            .await
            .with_context(|| expression.to_owned())
    }

    /// Waits until an expression is true.
    async fn until(&self, what: &str, expression: &str) -> anyhow::Result<()> {
        let holds = async || {
            // The page may change meanwhile: what is asked of it is asked again.
            let value = self.value(expression).await.unwrap_or(Value::Null);
            Ok((value == Value::Bool(true)).then_some(()))
        };
        wait::until_some(what, DEADLINE, holds).await
    }

    /// Waits until the address of the page is this one of the surface.
    async fn arrive(&self, path: &str) -> anyhow::Result<()> {
        let wanted = format!("{}{path}", self.url);
        let arrived = async || Ok((self.client.current_url().await?.as_str() == wanted).then_some(()));
        wait::until_some(&wanted, DEADLINE, arrived).await.with_context(|| format!("it is not at {path}"))?;
        self.ready().await
    }

    /// Asks the browser itself, not the page.
    async fn devtools(&self, command: &str, parameters: Value) -> anyhow::Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        Ok(self.client.issue_cmd(Own { path: "goog/cdp/execute", body }).await?)
    }

    /// What the browser has complained of since it was last asked.
    async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let logged = self.client.issue_cmd(Own { path: "se/log", body: json!({"type": "browser"}) }).await?;
        let entries = logged.as_array().context("a log is a list")?;
        let loud =
            entries.iter().filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        Ok(loud.map(|entry| entry["message"].to_string()).collect())
    }

    /// Ends, having complained of nothing.
    async fn close(self) -> anyhow::Result<()> {
        let complaints = self.complaints().await?;
        ensure!(complaints.is_empty(), "the browser complains: {complaints:#?}");
        self.leave().await
    }

    /// Ends, whatever it has complained of; the policy was broken by nothing.
    async fn leave(self) -> anyhow::Result<()> {
        self.client.close().await?;
        let reports = self.reports.lock().unwrap().clone();
        ensure!(reports.is_empty(), "the policy kept from being loaded: {reports:#?}");
        Ok(())
    }
}

/// A command of this driver that is no part of the standard.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _url: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
