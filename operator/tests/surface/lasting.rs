//! Whoever sends slowly, takes nothing, or asks for much keeps nobody else waiting.

use reqwest::{Method, StatusCode, header};
use sandbox::wait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Console, DEADLINE, console::Setup, limits};

/// Twenty megabytes of changes.
const LARGE: &str = "
    with t as (insert into audit_transactions (txid, occurred_at) values (1, now()) returning id)
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
    select t.id, 'public', 'posts', jsonb_build_object('id', n::text), 'insert', jsonb_build_object('id', n, 'text', repeat(md5(n::text), 500))
    from t, generate_series(1, 1300) n";

/// Sends this, and leaves the connection open.
async fn sent(console: &Console, request: &str) -> anyhow::Result<TcpStream> {
    let address = console.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.replace("HOST", address).as_bytes()).await?;
    Ok(stream)
}

#[tokio::test]
async fn a_form_that_comes_slowly_keeps_nobody_from_their_turn() -> anyhow::Result<()> {
    let mut limits = limits();
    limits.per_actor = 1;
    limits.request = std::time::Duration::from_secs(3);
    let console = Setup::after("").await?.limits(limits).start().await?;
    let slow = "POST /preferences HTTP/1.1\r\nhost: HOST\r\ncookie: staff=everything\r\ncontent-length: 100\r\nconnection: close\r\n\r\nt";
    let mut stream = sent(&console, slow).await?;
    console.page("/timeline").await?;
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("form_too_slow"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_download_that_nobody_takes_ends_with_the_grant() -> anyhow::Result<()> {
    let mut limits = limits();
    limits.downloads = 1;
    let mut console = Setup::after(LARGE).await?.limits(limits).start().await?;
    let stalled =
        "GET /exports/now?as=ndjson HTTP/1.1\r\nhost: HOST\r\ncookie: staff=everything+export+brief\r\n\r\n";
    let mut stream = sent(&console, stalled).await?;
    let mut begun = [0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut begun)).await??;
    assert_eq!(&begun, b"HTTP/1.1 200");
    console.as_staff("everything+export");
    assert_eq!(console.answer("/exports/now?as=csv&op=truncate").await?.0, StatusCode::TOO_MANY_REQUESTS);
    wait::until_some("the download to end", DEADLINE, async || {
        let (status, _) = console.answer("/exports/now?as=csv&op=truncate").await?;
        Ok((status == StatusCode::OK).then_some(()))
    })
    .await?;
    // What was sent so far can be taken; that it is not all of it is seen.
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await??;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    Ok(())
}

#[tokio::test]
async fn one_person_cannot_take_all_streams() -> anyhow::Result<()> {
    let mut limits = limits();
    limits.per_actor = 1;
    let mut console = Setup::after("").await?.limits(limits).start().await?;
    let first = console.get("/timeline/tail").await?;
    assert_eq!(first.status(), StatusCode::OK);
    let second = console.get("/timeline/tail").await?;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers()[header::RETRY_AFTER], "2");
    console.as_staff("MINE");
    assert_eq!(console.get("/timeline/tail").await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn what_is_recorded_as_handed_out_was_asked_for_here() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+export");
    let url = format!("{}/exports/now?as=csv", console.url);
    let asked =
        |method| console.client.request(method, &url).header(header::COOKIE, "staff=everything+export");
    assert_eq!(asked(Method::HEAD).send().await?.status(), StatusCode::FORBIDDEN);
    for site in ["cross-site", "same-site"] {
        assert_eq!(
            asked(Method::GET).header("sec-fetch-site", site).send().await?.status(),
            StatusCode::FORBIDDEN
        );
    }
    let recorded = "select count(*) from audit_actions";
    let count: i64 = sqlx::query_scalar(recorded).fetch_one(&mut console.database.connect().await?).await?;
    assert_eq!(count, 0);
    assert_eq!(
        asked(Method::GET).header("sec-fetch-site", "same-origin").send().await?.status(),
        StatusCode::OK
    );
    Ok(())
}
