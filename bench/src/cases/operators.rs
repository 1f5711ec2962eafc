//! Operators page through a long timeline and follow it, in the service as it is shipped, beside writers: how long a page takes, and how long
//! the writers wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, future::try_join_all};
use reqwest::{Client, Url};
use sandbox::{process::Process, wait};
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{
    Bench,
    hand_over::writers::{Writers, Written},
    reads::{
        data::{self, Rows},
        timing::Times,
        writes,
    },
    say,
};
use crate::{meter::Meter, results::Sample};

/// What the names of its cases begin with.
pub(crate) const CASES: &str = "operators/";
/// Of pages, from the request to the last byte.
pub(crate) const PAGES: &str = "operators/pages";
/// What writers wait.
pub(crate) const WRITERS: &str = "operators/writers beside them";
/// The service.
pub(crate) const OURS: &str = "threadline-serve";
/// Writers alone, before it and behind it.
pub(crate) const UNDISTURBED: &str = "undisturbed";
const UNDISTURBED_AGAIN: &str = "undisturbed again";
/// Writers beside operators.
pub(crate) const DISTURBED: &str = "operators";

/// Operators at a time; each opens a page a second.
const OPERATORS: u32 = 50;

/// As many of them as the service lets follow at a time.
const FOLLOWING: u32 = 20;

/// How long the service may take to come up, or to end.
const DEADLINE: Duration = Duration::from_secs(60);

const DATABASE: &str = "operators_ours";

/// What operators open, one after the other; from a list they go on to what it links to.
const PATHS: [&str; 6] = [
    "timeline",
    "timeline?table=public.orders&op=update",
    "timeline?actor=user:frequent",
    "timeline?status=error",
    "row?table=public.orders&key=2",
    "timeline?group=1",
];

/// In a copy: each repeat finds the same.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    if repeat == 0 {
        let rows = Rows::with(bench.plan.timeline);
        say(&format!("writing {} changes", rows.changes));
        data::with_our_tables(bench.environment, DATABASE, rows).await?;
    }
    let url = bench.environment.source_like(DATABASE).await?;
    writes::capture(&url).await?;
    undisturbed(bench, &url, (UNDISTURBED, repeat), 0).await?;
    beside_operators(bench, &url, repeat).await?;
    undisturbed(bench, &url, (UNDISTURBED_AGAIN, repeat), 2).await?;
    bench.environment.drop(&[&url]).await
}

async fn undisturbed(
    bench: &mut Bench<'_>,
    url: &str,
    (variant, repeat): (&str, u32),
    stretch: u64,
) -> anyhow::Result<()> {
    let writers = Writers::start(url, stretch).await?;
    tokio::time::sleep(bench.plan.warm_up).await;
    let from = Instant::now();
    tokio::time::sleep(bench.plan.steady).await;
    let measured = (from, Instant::now());
    let written = writers.stop().await?;
    bench.keep(of_writers(&written, variant, repeat, measured)).await
}

fn of_writers(written: &Written, variant: &str, repeat: u32, measured: (Instant, Instant)) -> Sample {
    let seconds = (measured.1 - measured.0).as_secs_f64();
    Sample { seconds, ..written.times(measured).sample(WRITERS, variant, repeat) }
}

async fn beside_operators(bench: &mut Bench<'_>, url: &str, repeat: u32) -> anyhow::Result<()> {
    let (mut process, base) = serve(bench, url, repeat).await?;
    let writers = Writers::start(url, 1).await?;
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let operators: Vec<_> = (0..OPERATORS)
        .map(|number| tokio::spawn(operate(base.clone(), number, begun, stop.clone())))
        .collect();
    tokio::time::sleep(bench.plan.warm_up).await;
    let mut meter = Meter::begin(bench.environment).await?;
    meter.watch(OURS, process.id());
    let from = Instant::now();
    tokio::time::sleep(bench.plan.steady).await;
    let measured = (from, Instant::now());
    let mut sample = meter.end(PAGES, OURS, repeat).await?;
    stop.cancel();
    let written = writers.stop().await?;
    let mut times = Times::default();
    for opened in try_join_all(operators).await? {
        for (at, taken) in opened? {
            if (measured.0..measured.1).contains(&at) {
                times.add(taken);
            }
        }
    }
    let Sample { rows, latency, .. } = times.sample(PAGES, OURS, repeat);
    (sample.rows, sample.latency) = (rows, latency);
    let ended = process.terminate(DEADLINE)?;
    ensure!(ended.success(), "{OURS} failed:\n{}", process.log());
    bench.keep(sample).await?;
    bench.keep(of_writers(&written, DISTURBED, repeat, measured)).await
}

/// Starts the service; where its pages are. One machine is one actor: the limit for each of them is that of all.
async fn serve(bench: &Bench<'_>, url: &str, repeat: u32) -> anyhow::Result<(Process, Url)> {
    let limit = format!("operator.limits.requests_per_actor={OPERATORS}");
    let settings = [
        "operator.listen=127.0.0.1:0",
        "operator.metrics_listen=off",
        "operator.auth.kind=none",
        limit.as_str(),
        "log.format=json",
    ];
    let arguments: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let environment = [("THREADLINE_DATABASE_URL", url)];
    let work_dir = &bench.environment.sandbox.work_dir;
    // With a log of its own: the one of another repeat says where that was.
    let process = Process::start(work_dir, &format!("{OURS}-{repeat}"), OURS, &arguments, &environment)?;
    let place = wait::until_some("the service to serve", DEADLINE, async || {
        let log = process.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(lines.find_map(|line| line["place"].as_str().map(str::to_owned)))
    })
    .await?;
    Ok((process, Url::parse(&place)?))
}

/// One operator: a page a second, and beside it, if they are one of those, what is new.
async fn operate(
    base: Url,
    number: u32,
    begun: Instant,
    stop: CancellationToken,
) -> anyhow::Result<Vec<(Instant, Duration)>> {
    // Whatever was installed first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(DEADLINE).build()?;
    let following =
        (number < FOLLOWING).then(|| tokio::spawn(follow(client.clone(), base.clone(), stop.clone())));
    let every = Duration::from_secs(1);
    let mut ticker = interval_at((begun + every * number / OPERATORS).into(), every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut opened, mut next) = (Vec::new(), None);
    for path in PATHS.iter().cycle().skip(number as usize) {
        let due = ticker.tick().await.into_std();
        if stop.is_cancelled() {
            break;
        }
        let page = match next.take() {
            Some(page) => page,
            None => base.join(path)?,
        };
        let answer = client.get(page.clone()).send().await?;
        let (status, html) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{page} answers {status}:\n{html}");
        opened.push((due, due.elapsed()));
        // Every other page is the older one of the page before.
        if opened.len() % 2 == 1 {
            let older = html.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
            next = older.map(|link| page.join(&link.replace("&amp;", "&"))).transpose()?;
        }
    }
    if let Some(following) = following {
        following.await??;
    }
    Ok(opened)
}

/// Follows until it is told to stop; a stream that ends is asked for again, as browsers do.
async fn follow(client: Client, base: Url, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let stream = client.get(base.join("timeline/tail")?).send().await.context("a stream")?;
        let mut stream = stream.error_for_status()?.bytes_stream();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                part = stream.next() => if part.transpose()?.is_none() { break },
            }
        }
    }
    Ok(())
}
