//! Whatever is done, and however it ends: no event and no label holds anything of the data.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, Write},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sandbox::{heard::Heard, rights::as_role, wait, work_dir::WorkDir};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    Action, ActorRef, ActorType, AuditContext, Timeline,
    coverage::{self, Expectations},
    export::{Destination, Format, Options, Profile, Request, export},
    gauges,
    lease::Lease,
    query::{Filter, PageRequest, Scope, row::RowPage},
    retention::{Keep, Policy, PurgeOptions, Scheduler},
    telemetry,
};

use super::{Host, host, insert};

const DEADLINE: Duration = Duration::from_secs(60);

/// Refuses whatever begins with `late`, at the commit, with the value in its words.
const RULES: &str = "create function refuse_late() returns trigger language plpgsql as $$
     begin if new.title like 'late%' then raise exception 'no % here', new.title; end if; return null; end $$;
     create constraint trigger late after insert on posts deferrable initially deferred for each row execute function refuse_late();
     alter table audit_actions add check (comment not like 'refused%')";

/// A text that stands nowhere else, and what follows it wherever anything may.
type Mark = (String, String);

/// What one case puts into the timeline.
#[derive(Debug, Clone)]
struct Marks {
    texts: Vec<Mark>,
    number: i32,
}

impl Marks {
    fn text(&self, n: usize) -> String {
        let (mark, more) = &self.texts[n];
        format!("{mark}{more}")
    }

    fn plain(&self, n: usize) -> &str {
        &self.texts[n].0
    }

    /// Those that a line holds.
    fn within(&self, line: &str) -> Option<String> {
        let number = self.number.to_string();
        self.texts.iter().map(|(mark, _)| mark).chain([&number]).find(|mark| line.contains(*mark)).cloned()
    }

    fn actor(&self) -> ActorRef {
        ActorRef::new(ActorType::User, Some(self.plain(0))).unwrap()
    }

    fn action(&self) -> Action {
        Action::new(format!("a.{}", self.plain(1)), self.actor())
            .reason(self.text(2))
            .comment(self.text(3))
            .verb(self.text(4))
            .category(self.text(5))
            .correlation_id(self.text(6))
            .request_id(self.text(7))
            .job_id(self.text(8))
    }
}

fn marks() -> impl Strategy<Value = Marks> {
    let text = ("[a-z]{4}[a-z0-9]{10}", "[^\0]{0,4}");
    (prop::collection::vec(text, 16), 100_000_000..i32::MAX)
        .prop_map(|(texts, number)| Marks { texts, number })
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

/// Audited transactions: committed, refused in each way, panicked, attached.
async fn transactions(timeline: &Timeline, marks: &Marks) -> anyhow::Result<()> {
    timeline.record(marks.action()).await?;
    timeline.record(marks.action().comment(format!("refused {}", marks.text(3)))).await.unwrap_err();
    let transaction = || {
        let meta = json!({marks.plain(9): marks.text(9)}).as_object().unwrap().clone();
        let context = AuditContext::of(marks.actor()).correlation_id(marks.text(6));
        timeline.transaction(context).action(marks.action()).meta(meta)
    };
    let (id, title) = (marks.plain(10), marks.text(11));
    transaction().run(async |connection| insert(connection, id, marks.number, &title).await).await?;
    // The same key again; at the commit; by the work itself; in the middle.
    transaction().run(async |connection| insert(connection, id, 1, &title).await).await.unwrap_err();
    let late = format!("late {title}");
    transaction().run(async |connection| insert(connection, &late, 1, &late).await).await.unwrap_err();
    transaction().run(async |_| Err::<(), _>(title.clone())).await.unwrap_err();
    let (panics, words) = (transaction(), title.clone());
    let panicked = tokio::spawn(panics.run(async move |_| -> Result<(), sqlx::Error> { panic!("{words}") }));
    assert!(panicked.await.unwrap_err().is_panic());
    let nested = transaction().run(async |connection| {
        let inner = transaction().attach::<sqlx::Error>(connection).await;
        inner.map(drop).map_err(|error| error.to_string())
    });
    nested.await.unwrap_err();
    let long = AuditContext::of(marks.actor()).correlation_id(title.repeat(1_000));
    timeline.transaction(long).run(async |_| Ok::<_, sqlx::Error>(())).await.unwrap_err();
    let mut open = timeline.pool().begin().await?;
    let attached = transaction().attach::<sqlx::Error>(&mut open).await?;
    sqlx::query("update posts set title = $1").bind(marks.text(12)).execute(&mut *open).await?;
    attached.finish::<sqlx::Error>(&mut open).await?;
    open.commit().await?;
    telemetry::transaction_committed(true);
    Ok(())
}

/// What looks at tables, rows and pages, and what may not.
async fn reads(host: &mut Host, marks: &Marks) -> anyhow::Result<()> {
    let (storage, expectations) = (host.timeline.schema().clone(), Expectations::default());
    coverage::read(&mut host.connection, &storage, None, &expectations).await?;
    gauges::read(&mut host.connection, &storage, &expectations).await?;
    let mut projector = PgConnection::connect(&as_role(&host.database.url, "audit_projector")).await?;
    coverage::read(&mut projector, &storage, None, &expectations).await.unwrap_err();
    let reader = host.timeline.reader(Scope::everything());
    let row = reader.row(&"public.posts".parse()?, &marks.plain(10).parse()?).await?;
    assert!(reader.row_history(&row, &RowPage { size: 1, ..RowPage::default() }).await?.has_more);
    let filter: Filter = format!("actor:user:{}", marks.plain(0)).parse()?;
    assert!(!reader.page(&filter, &PageRequest::default()).await?.entries.is_empty());
    assert!(format!("{}:{}", marks.plain(1), marks.plain(2)).parse::<Filter>().is_err());
    assert!(reader.row(&"public.nothing".parse()?, &marks.plain(10).parse()?).await.is_err());
    Ok(())
}

/// Exports in every format, recorded in somebody's name, and those that fail.
async fn exports(timeline: &Timeline, marks: &Marks) -> anyhow::Result<()> {
    let reader = timeline.reader(Scope::everything());
    let folder = WorkDir::create()?;
    let request = |profile, format| -> anyhow::Result<Request> {
        let filter = format!("actor:user:{}", marks.plain(0)).parse()?;
        let options = Options { profile, format, ..Options::default() };
        Ok(Request { actor: Some(marks.actor()), ..Request::new(filter, options) })
    };
    for (profile, format) in [
        (Profile::Exact, Format::Csv),
        (Profile::Compat, Format::Json),
        (Profile::Full, Format::Ndjson),
        (Profile::Full, Format::Ocsf),
    ] {
        let path = folder.path().join(format!("{}.{format}", marks.plain(13)));
        export(&reader, request(profile, format)?, Destination::file(&path)).await?;
        export(&reader, request(profile, format)?, Destination::file(&path)).await.unwrap_err();
        let broken = Destination::Stream { out: Box::new(Closed), manifest: None };
        export(&reader, request(profile, format)?, broken).await.unwrap_err();
    }
    Ok(())
}

/// Purges that end well, that a host's rule refuses with a value in its words, and that others are in the way of.
async fn purges(host: &mut Host, marks: &Marks, heard: &Heard) -> anyhow::Result<()> {
    host.record_old(-1, &marks.text(14)).await?;
    let policy = Policy::new(Keep::days(10)?)?;
    let scheduler = || {
        let policy = policy.clone().enabled(true);
        Scheduler::new(host.timeline.clone(), policy).interval(DEADLINE * 60)
    };
    let mut dry_run = PurgeOptions::default();
    (dry_run.dry_run, dry_run.actor) = (true, Some(marks.actor()));
    host.timeline.purge(&policy, &dry_run).await?;
    let says = async |beginning: &str| {
        let heard = wait::until_some(beginning, DEADLINE, async || Ok(heard.has(beginning).then_some(())));
        heard.await.unwrap();
    };
    let (lease, storage) = (Lease::new("retention"), host.timeline.schema().clone());
    let mut other = host.database.connect().await?;
    lease.take(&mut other, &storage).await?.unwrap();
    Box::pin(scheduler().run_until(says("threadline.retention.purge.skipped"))).await;
    lease.release(&mut other, &storage).await?;
    let refuse = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception '{} %', old.data_after; end $$;
         create trigger refuse before delete on audit_changes for each row execute function refuse()",
        marks.plain(15)
    );
    host.connection.execute(AssertSqlSafe(refuse)).await?;
    host.timeline.purge(&policy, &PurgeOptions::default()).await.unwrap_err();
    Box::pin(scheduler().run_until(says("threadline.retention.purge.exception"))).await;
    host.connection.execute("drop trigger refuse on audit_changes").await?;
    let mut named = PurgeOptions::default();
    named.actor = Some(marks.actor());
    assert_eq!(host.timeline.purge(&policy, &named).await?.deleted_changes, 1);
    Ok(())
}

async fn everything(marks: &Marks, heard: &Heard) -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection.execute(RULES).await?;
    transactions(&host.timeline, marks).await?;
    reads(&mut host, marks).await?;
    exports(&host.timeline, marks).await?;
    purges(&mut host, marks, heard).await
}

#[test]
fn no_event_and_no_label_holds_anything_of_the_data_whatever_is_done() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let recorder = PrometheusBuilder::new().install_recorder().unwrap();
    telemetry::begin();
    let heard = Heard::everywhere("threadline");
    let names = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    runner
        .run(&marks(), |marks| {
            runtime.block_on(everything(&marks, &heard)).unwrap();
            let said = heard.taken();
            let shown = recorder.render();
            for line in said.iter().map(String::as_str).chain(shown.lines()) {
                prop_assert_eq!(marks.within(line), None, "{}", line);
            }
            let name = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
            names.borrow_mut().extend(said.iter().map(name).filter(|name| name.starts_with("threadline.")));
            Ok(())
        })
        .unwrap();
    // All of it was done.
    let names: Vec<String> = names.into_inner().into_iter().collect();
    assert_eq!(
        names,
        [
            "threadline.action.recorded",
            "threadline.export.completed",
            "threadline.export.failed",
            "threadline.health.checked",
            "threadline.health.checked.error",
            "threadline.health.findings_checked",
            "threadline.retention.batch_purged",
            "threadline.retention.purge.exception",
            "threadline.retention.purge.skipped",
            "threadline.retention.purge.start",
            "threadline.retention.purge.stop",
            "threadline.row_history.truncated",
            "threadline.transaction.committed",
        ]
    );
}

#[test]
fn what_is_said_of_the_data_is_heard() {
    let marks = Marks { texts: vec![("abcdefghij".to_owned(), String::new())], number: 123_456_789 };
    let (heard, _listening) = Heard::of("threadline");
    tracing::trace!(target: "threadline::here", title = "x abcdefghij", "a value");
    tracing::trace!(target: "threadline::here", "a number: {}", marks.number);
    tracing::trace!(target: "another::one", title = "x abcdefghij");
    let span = tracing::trace_span!(target: "threadline::here", "span", key = tracing::field::Empty);
    span.record("key", "abcdefghij");
    let said = heard.taken();
    let found: Vec<bool> = said.iter().map(|line| marks.within(line).is_some()).collect();
    assert_eq!(found, [true, true, false, true], "{said:?}");
}
