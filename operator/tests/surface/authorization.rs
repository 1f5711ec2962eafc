//! Who gets in, and what becomes of everybody else.

use reqwest::{StatusCode, header};

use super::Console;

const PATHS: [&str; 12] = [
    "/",
    "/timeline",
    "/timeline/count",
    "/timeline/tail",
    "/row?table=posts&key=1",
    "/actor?actor=user:u1",
    "/help",
    "/pipeline",
    "/pipeline/failures",
    "/events/00000000-0000-4000-8000-000000000000",
    "/search?q=x",
    "/nowhere",
];

#[tokio::test]
async fn nobody_sees_anything_before_the_host_has_said_so() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("");
    for path in PATHS {
        let request = console.client.get(format!("{}{path}", console.url));
        let response = request.send().await?;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(response.headers()[header::LOCATION], "/login", "{path}");
        assert_eq!(response.text().await?, "");
        // A program is told, and led nowhere.
        let separator = if path.contains('?') { '&' } else { '?' };
        let response =
            console.client.get(format!("{}{path}{separator}format=json", console.url)).send().await?;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(response.text().await?.contains("\"denied\""), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_and_a_time_out_of_the_host_are_denials() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    for staff in ["panic", "hang"] {
        console.as_staff(staff);
        let (status, text) = console.answer("/timeline").await?;
        assert_eq!(status, StatusCode::FORBIDDEN, "{staff}");
        assert!(text.contains("<code>denied</code>") && !text.contains("own fault"), "{text}");
    }
    console.as_staff("everything");
    assert_eq!(console.answer("/timeline").await?.0, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn every_answer_forbids_what_no_page_needs() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let html = console.page("/").await?;
    let style = super::links(&html).into_iter().find(|link| link.contains(".css")).unwrap();
    for path in ["/", "/timeline", "/nowhere", "/timeline?tabel=x", style.trim_start_matches('.')] {
        let response = console.get(path).await?;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str()?.to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for name in
            ["x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "x-frame-options"]
        {
            assert!(response.headers().contains_key(name), "{path}: {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let send = |origin: &'static str| {
        let request = console.client.post(format!("{}/preferences", console.url));
        request
            .header(header::COOKIE, "staff=everything")
            .header(header::ORIGIN, origin)
            .body("theme=dark&back=timeline")
            .send()
    };
    let refused = send("https://elsewhere.example").await?;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(!refused.headers().contains_key(header::SET_COOKIE));
    let own: &'static str = Box::leak(console.url.clone().into_boxed_str());
    let taken = send(own).await?;
    assert_eq!(
        (taken.status(), &taken.headers()[header::LOCATION]),
        (StatusCode::SEE_OTHER, &header::HeaderValue::from_static("./timeline"))
    );
    assert!(taken.headers()[header::SET_COOKIE].to_str()?.starts_with("threadline_theme=dark;"));
    Ok(())
}
