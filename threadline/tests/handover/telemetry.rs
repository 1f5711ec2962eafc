//! What an export says of itself.

use std::io::{self, Write};

use sandbox::heard::Heard;
use threadline::export::{Destination, Format, Options, Profile, Request, export};

use super::{Read, exported, options, tenants::TENANTS};

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn exports_say_how_many_rows_how_long_and_why_not_and_nothing_of_the_data() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let request = || -> anyhow::Result<Request> {
        Ok(Request { is_recorded: false, ..Request::new("".parse()?, options(Profile::Full, Format::Json)) })
    };
    let broken = || Destination::Stream { out: Box::new(Closed), manifest: None };
    let (heard, _listening) = Heard::of("threadline.export");
    let limited = Options { max_rows: Some(7), ..options(Profile::Exact, Format::Csv) };
    exported(&read.reader(), "table:posts actor:user:u1", limited).await?;
    exported(&read.reader(), "", options(Profile::Exact, Format::Ndjson)).await?;
    let refused = exported(&read.reader(), "kind:event", options(Profile::Exact, Format::Json)).await;
    assert!(refused.is_err());
    assert!(export(&read.reader(), request()?, broken()).await.is_err());
    assert_eq!(
        heard.taken(),
        [
            r#"threadline.export.completed row_count=7 duration_ms=_ format="csv" truncated=true"#,
            r#"threadline.export.completed row_count=80 duration_ms=_ format="ndjson" truncated=false"#,
            r#"threadline.export.failed row_count=0 duration_ms=_ format="json" error_kind="profile_kind""#,
            r#"threadline.export.failed row_count=160 duration_ms=_ format="json" error_kind="output""#,
        ]
    );
    Ok(())
}
