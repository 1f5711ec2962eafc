//! Behind a proxy that cuts a prefix from the path, as nginx does it with a slash behind `proxy_pass`.

use std::collections::{BTreeMap, VecDeque};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use reqwest::{Client, StatusCode, Url, header};
use tokio::net::TcpListener;

use super::{super::links, Alone};

const SAMPLE: &str = include_str!("../../../../threadline/tests/query/sample.sql");
const PREFIX: &str = "/internal/audit";

#[derive(Clone)]
struct Proxy {
    client: Client,
    upstream: String,
}

/// Passes on what is below the prefix, with the name of its own host, and answers nothing else.
async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let whole = parts.uri.path_and_query().map_or("", |whole| whole.as_str());
    let Some(rest) = whole.strip_prefix(&format!("{PREFIX}/")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let url = format!("{}{rest}", proxy.upstream);
    let answer =
        proxy.client.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != header::TRANSFER_ENCODING) {
        response = response.header(name, value);
    }
    response.body(Body::from_stream(answer.bytes_stream())).unwrap()
}

#[tokio::test]
async fn every_link_form_and_redirect_leads_to_the_surface_behind_a_proxy_that_cuts_the_prefix()
-> anyhow::Result<()> {
    let keys = "listen = \"127.0.0.1:0\"\nauth.kind = \"none\"\n";
    let alone = Alone::over(SAMPLE, keys).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let proxy = Proxy { client: alone.client.clone(), upstream: alone.url.clone() };
    let app = Router::new().fallback(pass).with_state(proxy);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let root = format!("{origin}{PREFIX}/");

    let mut open = VecDeque::from([Url::parse(&root)?]);
    // How often each path was opened.
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    while let Some(url) = open.pop_front() {
        let Some(path) = url.as_str().strip_prefix(&root) else { panic!("{url} is not below {root}") };
        let path = path.split(['?', '#']).next().unwrap_or_default().to_owned();
        let times = seen.entry(path).or_default();
        *times += 1;
        if *times > 3 || url.path().ends_with("/tail") {
            continue;
        }
        let response = alone.client.get(url.clone()).send().await?;
        match response.status() {
            StatusCode::SEE_OTHER => {
                open.push_back(url.join(response.headers()[header::LOCATION].to_str()?)?);
            }
            // Forms that are sent are opened by nobody.
            StatusCode::NOT_FOUND if url.path().ends_with("/preferences") => {}
            status => {
                assert_eq!(status, StatusCode::OK, "{url}");
                let is_page = response.headers()[header::CONTENT_TYPE].to_str()?.starts_with("text/html");
                let text = response.text().await?;
                if is_page {
                    for link in links(&text) {
                        open.push_back(url.join(&link)?);
                    }
                }
            }
        }
    }
    for path in ["timeline", "help", "row", "actor", "assets/", "transactions/", "search", "preferences"] {
        assert!(seen.keys().any(|one| one.starts_with(path)), "{path}: {seen:?}");
    }

    // A form comes back to the page that it was sent from.
    let form = alone.client.post(format!("{root}preferences")).header(header::ORIGIN, &origin);
    let sent = form.body("theme=dark&back=timeline").send().await?;
    assert_eq!(sent.status(), StatusCode::SEE_OTHER);
    let back = Url::parse(&format!("{root}preferences"))?.join(sent.headers()[header::LOCATION].to_str()?)?;
    assert_eq!(back.as_str(), format!("{root}timeline"));
    Ok(())
}
