//! Wherever a host mounts it, links lead to it.

use axum::Router;
use reqwest::{StatusCode, header};

use super::{console::Setup, links};

const SAMPLE: &str = include_str!("../../../threadline/tests/query/sample.sql");

#[tokio::test]
async fn links_lead_to_the_surface_at_every_mount() -> anyhow::Result<()> {
    for path in ["", "/audit", "/x/y/audit"] {
        let mount = move |surface: Router| {
            if path.is_empty() { surface } else { Router::new().nest_service(path, surface) }
        };
        let console = Setup::after(SAMPLE).await?.mounted(path, mount).start().await?;
        if !path.is_empty() {
            // Without a slash at its end, links would lead beside it.
            let response = console.get("").await?;
            assert_eq!(response.status(), StatusCode::SEE_OTHER);
            let begin =
                reqwest::Url::parse(&console.url)?.join(response.headers()[header::LOCATION].to_str()?)?;
            assert_eq!(begin.as_str(), format!("{}/", console.url));
        }
        let mut seen = 0;
        for page in [
            "/",
            "/timeline",
            "/transactions/b0000000-0000-4000-8000-000000000002",
            "/row?table=public.posts&key=1",
        ] {
            let html = console.page(page).await?;
            let base = reqwest::Url::parse(&format!("{}{page}", console.url))?;
            for link in links(&html) {
                let target = base.join(&link)?;
                assert!(
                    target.as_str().starts_with(&format!("{}/", console.url)),
                    "{page}: {link} leads to {target}"
                );
                let asset = target.path().contains("/assets/");
                if asset {
                    let response = console.client.get(target).send().await?;
                    assert_eq!(response.status(), StatusCode::OK, "{page}: {link}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 12, "{seen}");
    }
    Ok(())
}
