//! A header that a host signs: by the Python of the documentation, for the process.

use std::{fs, path::PathBuf, process::Command};

use reqwest::{Response, StatusCode};
use sandbox::process;
use uuid::Uuid;

use super::{Alone, shared};

const SAMPLE: &str = include_str!("../../../../threadline/tests/query/sample.sql");
pub(super) const PAGE: &str = include_str!("../../../../docs/operator-hosts.md");
pub(super) const SECRET: &str = "a secret of the tests, with 32 characters";

/// A host that is written in Python.
struct Host {
    module: PathBuf,
}

impl Host {
    fn new() -> anyhow::Result<Self> {
        let code = PAGE.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let module = shared().work_dir.path().join(format!("host_{}.py", Uuid::new_v4().simple()));
        fs::write(&module, code)?;
        Ok(Self { module })
    }

    /// The value of an expression, as text; `grant` is the function of the documentation.
    fn value(&self, expression: &str) -> anyhow::Result<String> {
        let script = format!(
            "import runpy; grant = runpy.run_path({:?})['threadline_grant']; print({expression}, end='')",
            self.module.display().to_string()
        );
        let output = process::complete(Command::new("python3").args(["-c", &script]))?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn grant(&self, method: &str, path: &str, query: &str, scope: &str) -> anyhow::Result<String> {
        self.value(&format!(
            "grant('k1', {SECRET:?}, {method:?}, {path:?}, {query:?}, 'admin:a1', {scope}, ['views'], 'Anna Ønskov')"
        ))
    }
}

pub(super) async fn alone() -> anyhow::Result<Alone> {
    let keys = shared().work_dir.path().join(format!("{}.keys", Uuid::new_v4()));
    fs::write(&keys, format!("# of the host\nk1 {SECRET}\n"))?;
    let settings = format!(
        "listen = \"127.0.0.1:0\"\nauth.kind = \"signed\"\nauth.signed.keys_file = \"{}\"\n",
        keys.display()
    );
    Alone::over(SAMPLE, &settings).await
}

async fn refused(response: Response) -> anyhow::Result<String> {
    let (status, text) = (response.status(), response.text().await?);
    anyhow::ensure!(status == StatusCode::FORBIDDEN && text.contains("denied"), "{status}: {text}");
    anyhow::ensure!(!text.contains("public.posts"), "{text}");
    Ok(text)
}

#[tokio::test]
async fn the_python_of_the_documentation_makes_the_known_answer() -> anyhow::Result<()> {
    let vector = |name: &str| PAGE.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    let (kid, secret) = vector("secret file").split_once(' ').unwrap();
    let (method, uri) = vector("request").split_once(' ').unwrap();
    let (path, query) = uri.split_once('?').unwrap();
    let made = Host::new()?.value(&format!(
        "grant({kid:?}, {secret:?}, {method:?}, {path:?}, {query:?}, 'admin:a1', {{'tenant': 't1'}}, ['views', 'export'], 'Anna Ønskov', \
         1800000030)"
    ))?;
    assert_eq!(made, vector("header"));
    Ok(())
}

#[tokio::test]
async fn a_host_signs_who_asks_and_nothing_else_counts() -> anyhow::Result<()> {
    let (alone, host) = (alone().await?, Host::new()?);
    let header = host.grant("GET", "/timeline", "table=posts", "'everything'")?;
    let with = [("x-threadline-grant", header.as_str())];
    let html = alone.get("timeline?table=posts", &with).await?.error_for_status()?.text().await?;
    assert!(html.contains("public.posts") && html.contains("Anna Ønskov"), "{html}");
    // What is read may be asked for again.
    assert_eq!(alone.get("timeline?table=posts", &with).await?.status(), StatusCode::OK);
    // Somebody who sees one tenant sees one tenant.
    let limited = host.grant("GET", "/timeline", "table=posts", "{'tenant': 'nobody'}")?;
    let html = alone.get("timeline?table=posts", &[("x-threadline-grant", &limited)]).await?.text().await?;
    assert!(!html.contains("<td>public.posts"), "{html}");

    // Signed for another path, query or method; there twice; and the headers of which some believe that they say who asks.
    let bare =
        [("x-forwarded-user", "admin:a1"), ("x-remote-user", "admin:a1"), ("authorization", "Basic YTpi")];
    for (path, headers, term) in [
        ("timeline?table=users", vec![with[0]], "other_request"),
        ("timeline", vec![with[0]], "other_request"),
        ("", vec![with[0]], "other_request"),
        ("timeline?table=posts", vec![with[0], with[0]], "twice"),
        ("timeline?table=posts", bare.to_vec(), "missing"),
    ] {
        let before = count(&alone, term).await?;
        refused(alone.get(path, &headers).await?).await?;
        assert_eq!(count(&alone, term).await?, before + 1, "{path} {term}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_sent_once_is_not_accepted_again() -> anyhow::Result<()> {
    let (alone, host) = (alone().await?, Host::new()?);
    let header = host.grant("POST", "/preferences", "", "'everything'")?;
    let send = || {
        let request = alone.client.post(format!("{}preferences", alone.url));
        request
            .header("x-threadline-grant", &header)
            .header("origin", alone.url.trim_end_matches('/'))
            .body("theme=dark")
    };
    let taken = send().send().await?;
    assert_eq!(taken.status(), StatusCode::SEE_OTHER);
    assert!(taken.headers().contains_key("set-cookie"));
    let again = send().send().await?;
    assert!(!again.headers().contains_key("set-cookie"));
    refused(again).await?;
    assert_eq!(count(&alone, "replayed").await?, 1);
    Ok(())
}

async fn count(alone: &Alone, reason: &str) -> anyhow::Result<u64> {
    let (_, metrics) = alone.operational("/metrics").await?;
    let series = format!("audit_operator_refused_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    Ok(value.ok_or_else(|| anyhow::anyhow!("{series}: {metrics}"))?.parse()?)
}
