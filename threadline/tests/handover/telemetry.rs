//! What an export says of itself.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    sync::{Arc, Mutex},
};

use threadline::export::{Destination, Format, Options, Profile, Request, export};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{Read, exported, options, tenants::TENANTS};

/// Everything that exports say, with its fields.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // How long it took differs.
        let value = if field.name() == "duration_ms" { "_".to_owned() } else { format!("{value:?}") };
        write!(self.0.lock().unwrap().last_mut().unwrap(), " {}={value}", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("threadline")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().name().to_owned());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

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
    // An event that another thread emits for the first time after this one listens would not be heard.
    exported(&read.reader(), "", Options::default()).await?;
    assert!(export(&read.reader(), request()?, broken()).await.is_err());
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let limited = Options { max_rows: Some(7), ..options(Profile::Exact, Format::Csv) };
    exported(&read.reader(), "table:posts actor:user:u1", limited).await?;
    exported(&read.reader(), "", options(Profile::Exact, Format::Ndjson)).await?;
    let refused = exported(&read.reader(), "kind:event", options(Profile::Exact, Format::Json)).await;
    assert!(refused.is_err());
    assert!(export(&read.reader(), request()?, broken()).await.is_err());
    let mut said = heard.0.lock().unwrap().clone();
    said.retain(|event| event.starts_with("threadline.export"));
    assert_eq!(
        said,
        [
            r#"threadline.export.completed row_count=7 duration_ms=_ format="csv" truncated=true"#,
            r#"threadline.export.completed row_count=80 duration_ms=_ format="ndjson" truncated=false"#,
            r#"threadline.export.failed row_count=0 duration_ms=_ format="json" error_kind="profile_kind""#,
            r#"threadline.export.failed row_count=160 duration_ms=_ format="json" error_kind="output""#,
        ]
    );
    Ok(())
}
