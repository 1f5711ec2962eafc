//! What an erasure says of itself: counts, and nothing of a row or of whom it is about.

use sandbox::heard::Heard;
use serde_json::json;

use super::{actor, host, person, row};

#[tokio::test]
async fn a_run_says_counts_and_nothing_of_a_row_or_of_whom_it_is_about() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.as_actor(
        &json!({"type": "user", "id": "u-1"}),
        &json!({}),
        "insert into users values (1, 'a@x', 'A', 3)",
    )
    .await?;
    let (heard, _listening) = Heard::of("threadline.erasure");
    host.dry_run(&row("users", 1)).await?;
    host.erase(&row("users", 1)).await?;
    host.erase(&actor("user", "u-1", false)).await?;
    host.erase(&person("1")).await?;
    host.run("drop table threadline_saved_views").await?;
    host.erase(&actor("user", "u-1", false)).await.unwrap_err();
    let said: Vec<String> =
        heard.taken().iter().map(|line| line.trim_start_matches("threadline.erasure.").to_owned()).collect();
    let expected = [
        "start kind=\"row\" dry_run=true",
        "stop kind=\"row\" rows=1 values=3 duration_ms=_ dry_run=true",
        "start kind=\"row\" dry_run=false",
        "batch_erased rows=1 values=3 duration_ms=_",
        "stop kind=\"row\" rows=1 values=3 duration_ms=_ dry_run=false",
        "start kind=\"actor\" dry_run=false",
        "batch_erased rows=1 values=1 duration_ms=_",
        "stop kind=\"actor\" rows=1 values=1 duration_ms=_ dry_run=false",
        "start kind=\"person\" dry_run=false",
        "stop kind=\"person\" rows=0 values=0 duration_ms=_ dry_run=false",
        "start kind=\"actor\" dry_run=false",
        "exception kind=\"actor\" error=\"timeline_incomplete\" duration_ms=_ dry_run=false",
    ];
    assert_eq!(said, expected);
    Ok(())
}
