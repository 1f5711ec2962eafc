//! What capture costs the application.

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::Bench;
use crate::{
    meter::Meter,
    results::Sample,
    rows::{Shape, Writers},
    verify,
};

/// How rows enter the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They do not.
    Bare,
    /// As `publisher attach` has it.
    Attached,
    /// The same, and a notification in the application's transaction.
    Notify,
    /// One trigger call a statement.
    Statement,
}

/// Bare twice: how far apart the same thing may come out.
const VARIANTS: [(&str, Way); 5] = [
    ("bare", Way::Bare),
    ("attached", Way::Attached),
    ("bare again", Way::Bare),
    ("notify", Way::Notify),
    ("statement trigger", Way::Statement),
];

const NO_CAPTURE: &str = "select outbox.detach()";

const NOTIFY: &str = "
    create function bench_notify() returns trigger language plpgsql as $$
    begin
        perform pg_notify('audit_events', '');
        return null;
    end $$;
    create trigger bench_notify after insert on audit_events for each row execute function bench_notify()";

const STATEMENT: &str = "
    select outbox.detach();
    create function bench_capture() returns trigger language plpgsql security definer
        set search_path = pg_catalog, pg_temp as $$
    begin
        insert into outbox.entries (audit_event_id, occurred_at)
        select n.id, pg_catalog.to_timestamp(least(extract(epoch from n.occurred_at), 9.2e12)) from new_rows n;
        return null;
    end $$;
    create trigger bench_capture after insert on audit_events
        referencing new table as new_rows for each statement execute function bench_capture()";

/// All numbers of writers, both shapes, all ways.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    for &count in bench.plan.writers {
        for shape in [Shape::Single, Shape::Bulk] {
            for (variant, way) in VARIANTS {
                let writers = Writers { count, shape, rate: None };
                let sample = write(bench, writers, variant, way, repeat).await?;
                bench.keep(sample).await?;
            }
        }
    }
    Ok(())
}

async fn write(
    bench: &Bench<'_>,
    writers: Writers,
    variant: &str,
    way: Way,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let source = bench.environment.source_like("empty_source").await?;
    let mut connection = PgConnection::connect(&source).await?;
    match way {
        Way::Attached => {}
        Way::Bare => _ = connection.execute(NO_CAPTURE).await?,
        Way::Notify => _ = connection.execute(NOTIFY).await?,
        Way::Statement => _ = connection.execute(STATEMENT).await?,
    }
    connection.close().await?;
    let meter = Meter::begin(bench.environment).await?;
    let (written, seconds) = writers.write(&source, bench.plan.capture).await?;
    let shape = if writers.shape == Shape::Single { "single" } else { "bulk" };
    let mut sample = meter.end(&format!("capture/{} {shape}", writers.count), variant, repeat).await?;
    if way != Way::Bare {
        verify::verify_log(&mut sample, &source).await?;
    }
    sample.rows = written;
    sample.seconds = seconds;
    bench.environment.drop(&[&source]).await?;
    Ok(sample)
}
