//! `publisher backfill`: rows that were there before capture, or any others, enter the log and travel the common road.

use std::{collections::HashSet, fmt::Write as _};

use anyhow::{Context as _, bail};
use clap::Args;
use common::{
    acts::{self, Act},
    broker::Backlog,
    console,
    database::Database,
    identifier::{ForwarderId, quote},
    moment::Moment,
    outbox::{
        self,
        backfill::{self, Filter},
    },
    pace::pace,
    settings::Settings,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

/// Rows walked past with one transaction.
const CHUNK: u32 = 1_000;

/// Which rows, and how.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Backfill {
    /// Rows that happened at or after this time: RFC 3339, or so long ago, such as `90days`.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Rows that happened before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Rows of an action; `auth.*` for all that begin like this.
    #[arg(long)]
    action: Option<String>,
    /// For one forwarder only. Without it for all.
    #[arg(long)]
    forwarder: Option<ForwarderId>,
    /// Leaves out events that Sigra's own forwarder has delivered: those whose id is the correlation id of an action in
    /// `threadline.url`.
    #[arg(long)]
    adopt: bool,
    /// Most rows a second. Without it as many as leave live events in front.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Begins anew where the same backfill was cut off before, instead of going on with it.
    #[arg(long)]
    restart: bool,
    /// Only says how many rows match.
    #[arg(long)]
    dry_run: bool,
    /// Prints a JSON object instead of a sentence.
    #[arg(long)]
    json: bool,
}

impl Backfill {
    fn filter(&self) -> Filter {
        let at = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.at);
        Filter { since: at(&self.since), until: at(&self.until), action: self.action.clone() }
    }

    /// What was asked for; the same words go on with the same work.
    fn words(&self) -> String {
        let mut words = String::from("all rows");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(words, ", {name} {value}");
            }
        };
        add("since", self.since.as_ref().map(ToString::to_string));
        add("until", self.until.as_ref().map(ToString::to_string));
        add("action", self.action.clone());
        add("forwarder", self.forwarder.as_ref().map(ToString::to_string));
        add("without", self.adopt.then(|| "what Sigra's forwarder has delivered".to_owned()));
        words
    }
}

/// Enters them.
///
/// # Errors
/// When a server is away, or the table or the timeline is not what it should be. What has been entered stays entered; the
/// same command goes on behind it.
pub async fn run(settings: &Settings, asked: &Backfill) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, "audit-publisher-backfill").await?;
    let table = &settings.source.table;
    let (mut filter, words) = (asked.filter(), asked.words());
    let earlier = backfill::unfinished(&mut connection, &words).await?;
    let (given_up, unfinished) = if asked.restart { (earlier, None) } else { (None, earlier) };
    if let Some(work) = &unfinished {
        // What `2h` and the like meant then.
        (filter.since, filter.until) = (work.since, work.until);
    }
    if asked.dry_run {
        let total = backfill::count(&mut connection, table, &filter).await?;
        let done = unfinished.map_or(0, |work| work.passed);
        say(asked.json, &words, total - done.min(total), done, None);
        return Ok(());
    }
    let forwarders: Vec<ForwarderId> = match &asked.forwarder {
        Some(one) => vec![one.clone()],
        None => settings.forwarder.iter().map(|one| one.id.clone()).collect(),
    };
    if let Some(unknown) = forwarders.iter().find(|id| settings.forwarder.iter().all(|one| one.id != **id)) {
        bail!("no forwarder {unknown} is configured: its events would become dead letters");
    }
    let backlog = Backlog::of(&settings.broker, &forwarders, "audit-publisher-backfill").await?;
    let mut adopted = if asked.adopt { Some(Adopted::connect(settings).await?) } else { None };
    let mut work = if let Some(work) = unfinished {
        tracing::info!(passed = work.passed, of = work.total, "going on where the same backfill was cut off");
        work
    } else {
        if let Some(earlier) = given_up {
            backfill::finish(&mut connection, earlier.id).await?;
        }
        let total = backfill::count(&mut connection, table, &filter).await?;
        backfill::begin(&mut connection, &words, &filter, asked.forwarder.as_ref(), total).await?
    };
    let actor = acts::operator();
    let act = Act { actor: &actor, kind: "backfill", filter: &words, count: 0, reason: None };
    let act = acts::record(&mut connection, &act).await?;
    let bar = console::Bar::new("entering", work.total.unsigned_abs());
    bar.advance(work.passed.unsigned_abs());
    let chunk = asked.rate.map_or(CHUNK, |rate| rate.min(CHUNK));
    let mut ticker = asked.rate.map(|rate| pace(chunk, rate));
    loop {
        if let Some(ticker) = &mut ticker {
            ticker.tick().await;
        }
        backlog.give_way(&mut connection).await?;
        let page = backfill::page(&mut connection, table, &filter, work.after_id, chunk.into()).await?;
        let Some(&(last, _)) = page.last() else { break };
        let page: Vec<Uuid> = page.into_iter().filter(|(_, wanted)| *wanted).map(|(id, _)| id).collect();
        let passed = i64::try_from(page.len()).unwrap_or(i64::MAX);
        let page = match &mut adopted {
            Some(adopted) => adopted.others(page).await?,
            None => page,
        };
        let mut transaction = connection.begin().await?;
        let entered = backfill::enter(&mut transaction, table, &page, asked.forwarder.as_ref()).await?;
        if !backfill::advance(&mut transaction, &work, last, passed, entered.cast_signed()).await? {
            bail!("another process works at the same backfill; nothing is lost, let it finish");
        }
        acts::extend(&mut transaction, act, entered).await?;
        transaction.commit().await?;
        work.after_id = Some(last);
        work.passed += passed;
        work.entered += entered.cast_signed();
        bar.advance(passed.unsigned_abs());
    }
    backfill::finish(&mut connection, work.id).await?;
    bar.finish();
    say(asked.json, &words, work.total, work.passed, Some(work.entered));
    Ok(())
}

/// What another forwarder has brought into the timeline, under ids of its own.
struct Adopted {
    connection: PgConnection,
    statement: String,
}

impl Adopted {
    async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let url = settings.threadline.url.as_ref().context(
            "--adopt looks into the timeline: set threadline.url in the settings file, or THREADLINE_DATABASE_URL",
        )?;
        let limit = settings.source.statement_timeout;
        let database = Database::new(url, "audit-publisher-backfill", limit, false)?;
        let connection =
            database.connect().await.context("cannot connect to the timeline (threadline.url)")?;
        let statement = format!(
            "select correlation_id from {}.audit_actions where correlation_id = any ($1::uuid[]::text[])",
            quote(&settings.threadline.schema)
        );
        Ok(Self { connection, statement })
    }

    /// The events that the timeline does not hold.
    async fn others(&mut self, page: Vec<Uuid>) -> anyhow::Result<Vec<Uuid>> {
        let held: Vec<String> = sqlx::query_scalar(AssertSqlSafe(self.statement.as_str()))
            .bind(&page)
            .fetch_all(&mut self.connection)
            .await
            .context("cannot look into the timeline's audit_actions")?;
        let held: HashSet<Uuid> = held.iter().filter_map(|id| id.parse().ok()).collect();
        Ok(page.into_iter().filter(|id| !held.contains(id)).collect())
    }
}

fn say(json: bool, words: &str, total: i64, passed: i64, entered: Option<i64>) {
    console::answer(&if json {
        let answer = serde_json::json!({ "filter": words, "matched": total, "passed": passed,
                                         "entered": entered.unwrap_or(0), "dry_run": entered.is_none() });
        format!("{answer}\n")
    } else {
        match entered {
            Some(entered) => {
                format!("{entered} rows entered the log ({words}); what had arrived is left as it is\n")
            }
            None => format!("{total} rows would be entered ({words}), {passed} have been before\n"),
        }
    });
}
