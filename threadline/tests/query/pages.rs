//! Pages hold what a filter asks for, all of it, once, in order, in both directions.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _};
use threadline::{
    ActorRef, ActorType, Status,
    query::{
        Changed, Cursor, Entry, Filter, From, Instant, Key, Kind, Name, Op, Page, PageRequest, Reader, Table,
        Window,
    },
};
use time::macros::datetime;
use uuid::Uuid;

use super::Read;

const SAMPLE: &str = include_str!("sample.sql");

fn actor(kind: ActorType, id: &str) -> Option<ActorRef> {
    Some(ActorRef::new(kind, Some(id)).unwrap())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn table(schema: Option<&str>, name: &str) -> Option<Table> {
    Some(Table { schema: schema.map(str::to_owned), name: name.to_owned() })
}

fn exactly(name: &str) -> Option<Name> {
    Some(Name::Exact(name.to_owned()))
}

/// A condition for changes and one for actions, over c, t and a: what a filter means, said in another way.
type Meaning = (&'static str, &'static str);

const NONE: &str = "false";

/// Each filter, and combinations of them.
#[expect(clippy::too_many_lines, reason = "a table")]
fn filters() -> Vec<(Filter, Meaning)> {
    let changed = |before: Option<&str>, after: Option<&str>| {
        Some(Changed {
            column: "price".to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        })
    };
    let from = Some(Instant::new(datetime!(2026-03-01 00:05:00 UTC)));
    let to = Some(Instant::new(datetime!(2026-03-01 00:07:30 UTC)));
    let all = Filter::default;
    vec![
        (all(), ("true", "true")),
        (Filter { kind: Some(Kind::Change), ..all() }, ("true", NONE)),
        (Filter { kind: Some(Kind::Action), ..all() }, (NONE, "a.correlation_id is distinct from a.id::text")),
        (Filter { kind: Some(Kind::Event), ..all() }, (NONE, "a.correlation_id = a.id::text")),
        (Filter { kind: Some(Kind::Recorded), ..all() }, (NONE, "true")),
        (Filter { table: table(None, "posts"), ..all() }, ("c.table_name = 'posts'", NONE)),
        (Filter { table: table(Some("billing"), "posts"), ..all() }, ("c.table_name = 'posts' and c.table_schema = 'billing'", NONE)),
        (Filter { table: table(None, "rare"), ..all() }, ("c.table_name = 'rare'", NONE)),
        (
            Filter { table: table(Some("public"), "posts"), key: Some(Key::Value("7".to_owned())), ..all() },
            ("c.table_name = 'posts' and c.table_schema = 'public' and c.table_pk ->> 'id' = '7'", NONE),
        ),
        (
            Filter { table: table(None, "posts"), key: Some(r#"{"id":"10"}"#.parse().unwrap()), ..all() },
            ("c.table_name = 'posts' and c.table_pk ->> 'id' = '10'", NONE),
        ),
        (Filter { op: Some(Op::Delete), ..all() }, ("c.op = 'delete'", NONE)),
        (Filter { op: Some(Op::Truncate), ..all() }, (NONE, NONE)),
        (Filter { changed: changed(None, None), ..all() }, ("c.op = 'update'", NONE)),
        (Filter { changed: changed(Some("3.50"), None), ..all() }, ("c.changed_from ->> 'price' = '3.50'", NONE)),
        (
            Filter { changed: changed(Some("4.50"), Some("3.50")), table: table(None, "orders"), ..all() },
            ("c.op = 'update' and c.table_name = 'orders' and c.changed_from ->> 'price' = '4.50' and c.data_after ->> 'price' = '3.50'", NONE),
        ),
        (
            Filter { actor: actor(ActorType::User, "u1"), ..all() },
            ("t.actor_ref @> '{\"type\": \"user\", \"id\": \"u1\"}'", "a.actor_ref @> '{\"type\": \"user\", \"id\": \"u1\"}'"),
        ),
        (
            Filter { actor: Some(ActorRef::anonymous()), ..all() },
            ("t.actor_ref @> '{\"type\": \"anonymous\"}'", "a.actor_ref @> '{\"type\": \"anonymous\"}'"),
        ),
        (
            Filter { actor: actor(ActorType::Admin, "a3"), table: table(None, "orders"), ..all() },
            ("t.actor_ref @> '{\"type\": \"admin\", \"id\": \"a3\"}' and c.table_name = 'orders'", NONE),
        ),
        (
            Filter { actor: actor(ActorType::Admin, "a3"), op: Some(Op::Insert), source: some("web"), ..all() },
            ("t.actor_ref @> '{\"type\": \"admin\", \"id\": \"a3\"}' and c.op = 'insert' and t.source = 'web'", NONE),
        ),
        (Filter { action: exactly("user.suspended"), ..all() }, ("a.name = 'user.suspended'", "a.name = 'user.suspended'")),
        (
            Filter { action: Some(Name::Prefix("user.".to_owned())), ..all() },
            ("starts_with(a.name, 'user.')", "starts_with(a.name, 'user.')"),
        ),
        (
            Filter { action: exactly("order.paid"), table: table(None, "posts"), ..all() },
            ("a.name = 'order.paid' and c.table_name = 'posts'", NONE),
        ),
        (
            Filter { action: exactly("order.paid"), actor: actor(ActorType::User, "u1"), ..all() },
            ("a.name = 'order.paid' and t.actor_ref ->> 'id' = 'u1'", "a.name = 'order.paid' and a.actor_ref ->> 'id' = 'u1'"),
        ),
        (Filter { status: Some(Status::Error), ..all() }, ("a.status = 'error'", "a.status = 'error'")),
        (Filter { category: some("billing"), ..all() }, ("a.category = 'billing'", "a.category = 'billing'")),
        (
            Filter { correlation: some("c7"), ..all() },
            ("t.correlation_id = 'c7' or a.correlation_id = 'c7'", "a.correlation_id = 'c7'"),
        ),
        (
            Filter { correlation: some("c7"), actor: actor(ActorType::User, "u1"), ..all() },
            (
                "(t.correlation_id = 'c7' or a.correlation_id = 'c7') and t.actor_ref ->> 'id' = 'u1'",
                "a.correlation_id = 'c7' and a.actor_ref ->> 'id' = 'u1'",
            ),
        ),
        (
            Filter { correlation: some("c7"), kind: Some(Kind::Change), status: Some(Status::Ok), ..all() },
            ("(t.correlation_id = 'c7' or a.correlation_id = 'c7') and a.status = 'ok'", NONE),
        ),
        (Filter { request: some("r11"), ..all() }, ("t.request_id = 'r11' or a.request_id = 'r11'", "a.request_id = 'r11'")),
        (Filter { job: some("j1"), ..all() }, ("t.job_id = 'j1' or a.job_id = 'j1'", "a.job_id = 'j1'")),
        (
            Filter { source: some("web"), ..all() },
            ("t.source = 'web'", "exists (select from audit_transactions w where w.id = (select f.id from audit_transactions f where f.action_id = a.id order by f.occurred_at, f.id limit 1) and w.source = 'web')"),
        ),
        (Filter { text: some("FRAUD"), ..all() }, ("c.data_after::text ilike '%fraud%'", "a.reason ilike '%fraud%'")),
        (Filter { text: some("100%"), ..all() }, (NONE, "a.reason ilike '%100\\%%'")),
        (Filter { text: some("d_u"), ..all() }, (NONE, "a.reason ilike '%d\\_u%'")),
        (
            Filter { window: Window::Between { from, to }, ..all() },
            ("c.captured_at between '2026-03-01 00:05:00Z' and '2026-03-01 00:07:30Z'", "a.inserted_at between '2026-03-01 00:05:00Z' and '2026-03-01 00:07:30Z'"),
        ),
        (
            Filter { window: Window::Between { from, to: None }, actor: actor(ActorType::User, "u1"), ..all() },
            (
                "t.occurred_at >= '2026-03-01 00:05:00Z' and t.actor_ref ->> 'id' = 'u1'",
                "a.inserted_at >= '2026-03-01 00:05:00Z' and a.actor_ref ->> 'id' = 'u1'",
            ),
        ),
        (Filter { window: Window::Last("1s".parse().unwrap()), ..all() }, (NONE, NONE)),
    ]
}

async fn meant(read: &mut Read, (changes, actions): Meaning) -> anyhow::Result<BTreeSet<Uuid>> {
    let sql = format!(
        "select c.id from audit_changes c join audit_transactions t on t.id = c.transaction_id
         left join audit_actions a on a.id = t.action_id where {changes}
         union all select a.id from audit_actions a where {actions}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut read.connection).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// All entries, page by page, in the order of the pages.
async fn walk(reader: &Reader, filter: &Filter, request: &PageRequest) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut request = request.clone();
    loop {
        let Page { entries: mut page, has_more, older, visited_to, .. } = reader.page(filter, &request).await?;
        assert!(page.len() <= usize::from(request.size));
        assert!(
            !has_more || visited_to.is_some() || page.len() == usize::from(request.size),
            "a page that is not full has more"
        );
        entries.append(&mut page);
        assert_eq!(has_more, older.is_some());
        let Some(cursor) = older else { return Ok(entries) };
        // As it travels in a URL.
        request.from = From::OlderThan(cursor.to_string().parse::<Cursor>()?);
    }
}

#[tokio::test]
async fn pages_hold_exactly_what_each_filter_means_once() -> anyhow::Result<()> {
    let mut read = Read::after(SAMPLE).await?;
    let reader = read.reader();
    for (filter, meaning) in filters() {
        let meant = meant(&mut read, meaning).await?;
        for size in [7, 1_000] {
            for visited in [40, 2_000] {
                for by_transaction in [false, true] {
                    // A window is one of transactions then.
                    if by_transaction && filter.window != Window::Everything {
                        continue;
                    }
                    let request = PageRequest { size, visited, by_transaction, ..PageRequest::default() };
                    let entries = walk(&reader, &filter, &request).await?;
                    let ids: BTreeSet<Uuid> = entries.iter().map(Entry::id).collect();
                    assert_eq!(ids.len(), entries.len(), "{filter:?} {request:?}: one is there twice");
                    let missing: Vec<_> = meant.difference(&ids).collect();
                    let foreign: Vec<_> = ids.difference(&meant).collect();
                    assert!(
                        missing.is_empty() && foreign.is_empty(),
                        "{filter:?} {request:?}: {} missing, such as {:?}; {} foreign, such as {:?}",
                        missing.len(),
                        missing.first(),
                        foreign.len(),
                        foreign.first()
                    );
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_filter_entries_are_in_the_order_of_their_times_and_ids() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let entries = walk(&read.reader(), &Filter::default(), &PageRequest::default()).await?;
    assert!(entries.windows(2).all(|pair| (pair[0].at(), pair[0].id()) > (pair[1].at(), pair[1].id())));
    let filter = Filter { kind: Some(Kind::Change), ..Filter::default() };
    let by_transaction = PageRequest { by_transaction: true, ..PageRequest::default() };
    let entries = walk(&read.reader(), &filter, &by_transaction).await?;
    let place = |entry: &Entry| {
        let transaction = entry.transaction().unwrap();
        (transaction.occurred_at, transaction.id, entry.at(), entry.id())
    };
    assert!(entries.windows(2).all(|pair| place(&pair[0]) > place(&pair[1])));
    Ok(())
}

#[tokio::test]
async fn pages_of_newer_entries_lead_back_through_the_same_ones() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let reader = read.reader();
    for (filter, _) in filters() {
        let request = PageRequest { size: 23, visited: 60, ..PageRequest::default() };
        let mut there: Vec<Uuid> = walk(&reader, &filter, &request).await?.iter().map(Entry::id).collect();
        let Some(last) = there.pop() else { continue };
        // From the last entry of all.
        let mut cursor = None;
        let mut request = request;
        loop {
            let page = reader.page(&filter, &request).await?;
            if let Some(entry) = page.entries.last()
                && entry.id() == last
            {
                let one = PageRequest { size: 1, from: request.from.clone(), ..request.clone() };
                let mut page = reader.page(&filter, &one).await?;
                while page.entries.first().is_none_or(|entry| entry.id() != last) {
                    let from = From::OlderThan(page.older.unwrap());
                    page = reader.page(&filter, &PageRequest { from, ..one.clone() }).await?;
                }
                cursor = page.newer;
                break;
            }
            let Some(older) = page.older else { break };
            request.from = From::OlderThan(older);
        }
        let mut back = Vec::new();
        let mut cursor = cursor.unwrap();
        loop {
            let page = reader.page(&filter, &PageRequest { from: From::NewerThan(cursor), ..request.clone() }).await?;
            let mut ids: Vec<Uuid> = page.entries.iter().map(Entry::id).collect();
            ids.append(&mut back);
            back = ids;
            if !page.has_more {
                break;
            }
            cursor = page.newer.unwrap();
        }
        assert_eq!(back, there, "{filter:?}");
    }
    Ok(())
}
