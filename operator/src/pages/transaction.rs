//! One captured transaction: who, why, and every row.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    ActorRef,
    capture::{HostTable, Policy},
    coverage::stored_policy,
    query::{
        Change, Cursor, CursorError, Filter, From, Instant, Neighbours, Op, PartsRequest, Reader, Table,
        TablePart, Transaction, TransactionContext, TransactionParts, TransactionSummary, Window,
    },
    receipts::{self, Receipt},
};
use uuid::Uuid;

use crate::{
    Capability,
    asked::{Answered, Asked},
    failure::Failure,
    view::{View, change, command, copy, empty, facts, list::action_link, op, pager::pager, status, text},
};

/// Changes of each table on a page.
const CHANGES: u16 = 50;

/// What the page is made of.
#[derive(Serialize)]
struct Data<'d> {
    #[serde(flatten)]
    found: &'d TransactionContext,
    #[serde(flatten)]
    parts: &'d TransactionParts,
    /// The actor's transactions beside it.
    neighbours: Option<&'d Neighbours>,
    /// The receipt that covers it, for whoever may see evidence.
    receipt: Option<&'d Receipt>,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let id = asked.id()?;
    let reader = asked.reader();
    let only = Only::read(&asked)?;
    // With the first of its changes it is known what is the same of all.
    let mut found = reader.transaction(id, 1, None).await?.ok_or(Failure::NotFound)?;
    let parts = reader.transaction_parts(id, &only.request()).await?;
    found.changes.clear();
    let neighbours = neighbours(&reader, &found.transaction).await;
    let receipt = receipt(&asked, &found.transaction).await;
    let policies = policies(&reader, &parts).await?;
    let data =
        Data { found: &found, parts: &parts, neighbours: neighbours.as_ref(), receipt: receipt.as_ref() };
    asked.answer("Transaction", &data, |view| html! {
        (head(view, &found))
        (sealed(view, &asked, receipt.as_ref()))
        (beside(view, neighbours.as_ref()))
        (only.form(view, id))
        @if parts.tables.is_empty() { (nothing(&only)) }
        @for part in &parts.tables { (only.part(view, id, part, policies.get(&named(part)).and_then(Option::as_ref))) }
        @if parts.table_count > i64::try_from(parts.tables.len()).unwrap_or(i64::MAX) {
            p.none { (parts.table_count) " tables were changed; choose one above to see those that are not here." }
        }
        section aria-labelledby="commands" {
            h2 #commands { "As commands" }
            (command::shown("All of it", &format!("threadline incident {id}")))
            (command::shown("SQL that would undo it, to be read before it is run", &format!("threadline undo-plan {id}")))
        }
    })
}

/// The part of the transaction that is asked for.
struct Only {
    table: Option<Table>,
    op: Option<Op>,
    older: Option<Cursor>,
}

impl Only {
    fn read(asked: &Asked) -> Result<Self, Failure> {
        let table = asked.query.get("table").map(str::parse).transpose()?;
        let op = asked.query.get("op").map(str::parse).transpose()?;
        let older = asked.query.get("older").map(str::parse).transpose();
        let older =
            older.map_err(|error: CursorError| Failure::unusable("invalid_cursor", error.to_string()))?;
        if older.is_some() && table.is_none() {
            return Err(Failure::unusable("invalid_cursor", "Older changes are of a table: say table too."));
        }
        Ok(Self { table, op, older })
    }

    fn request(&self) -> PartsRequest {
        let Self { table, op, older } = self;
        PartsRequest { table: table.clone(), op: *op, size: CHANGES, older_than: older.clone() }
    }

    fn form(&self, view: &View<'_>, id: Uuid) -> Markup {
        let path = format!("transactions/{id}");
        let table = self.table.as_ref().map(|table| threadline::visible::text(&table.to_string()));
        html! {
            form.within action=(view.links.to(&path)) {
                input type="hidden" name="form" value="1";
                label for="within-table" { "Table" }
                input #within-table name="table" value=[table] autocomplete="off" spellcheck="false";
                label for="within-op" { "What was done" }
                select #within-op name="op" {
                    option value="" selected[self.op.is_none()] { "anything" }
                    @for op in [Op::Insert, Op::Update, Op::Delete, Op::Truncate] {
                        option value=(op.as_str()) selected[self.op == Some(op)] { (op.as_str()) }
                    }
                }
                button { "Show" }
                @if self.table.is_some() || self.op.is_some() { " " a href=(view.links.to(&path)) { "All of it" } }
            }
        }
    }

    fn part(&self, view: &View<'_>, id: Uuid, part: &TablePart, policy: Option<&Policy>) -> Markup {
        let table = Table { schema: Some(part.schema.clone()), name: part.table.clone() }.to_string();
        let link = |more: &[(&str, &str)]| {
            let op = self.op.map(|op| ("op", op.as_str()));
            let pairs: Vec<(&str, &str)> =
                [("table", table.as_str())].into_iter().chain(op).chain(more.iter().copied()).collect();
            view.links.with(&format!("transactions/{id}"), &pairs)
        };
        html! {
            section.table {
                h2 { a href=(link(&[])) { (text::line(&text::table_name(&part.schema, &part.table))) } " " span.count { (part.count) @if part.count == 1 { " change" } @else { " changes" } } }
                @for change in &part.changes { (one(view, change, policy)) }
                @if part.older.is_some() || self.older.is_some() {
                    (pager(&From::Newest, None, part.older.as_ref(), &link(&[]), |name, cursor| link(&[(name, cursor)])))
                }
            }
        }
    }
}

fn named(part: &TablePart) -> HostTable {
    HostTable { schema: part.schema.clone(), name: part.table.clone() }
}

/// What of its tables is hidden.
async fn policies(
    reader: &Reader,
    parts: &TransactionParts,
) -> Result<BTreeMap<HostTable, Option<Policy>>, Failure> {
    let mut policies = BTreeMap::new();
    for part in &parts.tables {
        let table = named(part);
        let policy = stored_policy(reader, &table).await?;
        policies.insert(table, policy);
    }
    Ok(policies)
}

/// The actor's transactions beside it; none where nobody is known, or finding them took too long.
async fn neighbours(reader: &Reader, transaction: &Transaction) -> Option<Neighbours> {
    let actor = serde_json::from_str(transaction.actor_ref.as_ref()?.get()).ok()?;
    let actor = ActorRef::from_json(&actor).ok()?;
    reader
        .neighbours(&actor, transaction)
        .await
        .inspect_err(|error| tracing::debug!(%error, "what is beside a transaction is not shown"))
        .ok()
}

/// The receipt that covers it; none where it is not sealed yet, or cannot be told.
async fn receipt(asked: &Asked, transaction: &Transaction) -> Option<Receipt> {
    let timeline = asked.whole(Capability::Evidence)?;
    receipts::covering(&timeline, transaction)
        .await
        .inspect_err(|error| tracing::debug!(%error, "the receipt of a transaction is not shown"))
        .ok()
        .flatten()
}

fn head(view: &View<'_>, found: &TransactionContext) -> Markup {
    let transaction = &found.transaction;
    let id = transaction.id.to_string();
    let action = found.action.as_ref();
    let correlation = transaction.correlation_id.as_ref().map(|id| {
        html! { a href=(view.links.with("correlation", &[("correlation", id)])) { (text::line(id)) } }
    });
    // No index leads to these: without a window, everything would be visited.
    let near = |of: fn(String, Filter) -> Filter, value: &Option<String>| {
        value.as_ref().map(|value| {
            let filter = of(value.clone(), Filter::default().within(around(transaction)));
            html! { a href=(view.links.filtered("timeline", &filter, &[])) { (text::line(value)) } " within an hour" }
        })
    };
    let shown = |value: Option<&String>| value.map(|value| text::cut(value, 1_000));
    html! {
        p.identity { code { (id) } " " (copy("id", &id)) " " a href=(view.links.to(&format!("incidents/{id}"))) { "Everything that is tied to it" } }
        (facts(&[
            ("Actor", Some(view.actor(transaction.actor_ref.as_ref()))),
            ("Began", Some(view.exact_time(transaction.occurred_at))),
            ("Action", action.map(|action| html! { (action_link(view, action)) " " (status(&action.status)) })),
            ("Verb", shown(action.and_then(|action| action.verb.as_ref()))),
            ("Category", shown(action.and_then(|action| action.category.as_ref()))),
            ("Reason", shown(action.and_then(|action| action.reason.as_ref()))),
            ("Comment", shown(action.and_then(|action| action.comment.as_ref()))),
            ("Correlation", correlation),
            ("Request", near(|request, filter| Filter { request: Some(request), ..filter }, &transaction.request_id)),
            ("Job", near(|job, filter| Filter { job: Some(job), ..filter }, &transaction.job_id)),
            ("Source", near(|source, filter| Filter { source: Some(source), ..filter }, &transaction.source)),
            ("Meta", transaction.meta.as_ref().map(|meta| html! { code { (text::cut(meta.get(), 2_000)) } })),
            ("Context", transaction.context.as_ref().map(|context| html! { code { (text::cut(context.get(), 2_000)) } })),
            ("Number", Some(html! { (transaction.txid) })),
        ]))
    }
}

/// An hour before and after it.
fn around(transaction: &Transaction) -> Window {
    let hour = time::Duration::hours(1);
    let end = |at: Option<time::OffsetDateTime>| at.map(Instant::new);
    let (from, to) = (transaction.occurred_at.checked_sub(hour), transaction.occurred_at.checked_add(hour));
    let window = Window::Between { from: end(from), to: end(to) };
    let is_usable = Filter::default().within(window).check().is_ok();
    if is_usable { window } else { Window::Everything }
}

fn sealed(view: &View<'_>, asked: &Asked, receipt: Option<&Receipt>) -> Markup {
    html! {
        @if asked.grant.allows(Capability::Evidence) {
            p.sealed {
                @match receipt {
                    Some(receipt) => { "Covered by receipt " (receipt.n) ", sealed " (view.time(receipt.sealed_at)) ": " code { "threadline receipts verify" } " says whether it holds." },
                    None => { "No receipt covers it yet: " code { "threadline receipts seal" } " writes the next one." },
                }
            }
        }
    }
}

/// The actor's transactions before and after it.
fn beside(view: &View<'_>, neighbours: Option<&Neighbours>) -> Markup {
    let link = |title: &str, of: Option<&TransactionSummary>| {
        html! {
            @if let Some(of) = of {
                li { (title) " " (view.id_link("transactions", of.transaction.id)) " " (view.time(of.transaction.occurred_at)) }
            }
        }
    };
    html! {
        @if let Some(Neighbours { previous, next }) = neighbours {
            @if previous.is_some() || next.is_some() {
                ul.beside aria-label="Of the same actor" {
                    (link("The same actor before:", previous.as_ref()))
                    (link("The same actor after:", next.as_ref()))
                }
            }
        }
    }
}

fn nothing(only: &Only) -> Markup {
    if only.table.is_none() && only.op.is_none() {
        return empty(
            "No changes",
            &html! { "It changed no row that you may see, or its changes were purged." },
        );
    }
    empty("Nothing fits", &html! { "It has no such change that you may see." })
}

fn one(view: &View<'_>, change: &Change, policy: Option<&Policy>) -> Markup {
    html! {
        article.entry id=(change.id) tabindex="-1" {
            p.line { (op(&change.op)) " " (view.row(&change.table_schema, &change.table_name, &change.table_pk)) " " (view.time(change.captured_at)) }
            (change::table_under(change, policy))
        }
    }
}
