//! Pages hold what a filter asks for, all of it, once, in order, in both directions.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _};
use threadline::query::{Cursor, Entry, Filter, From, Kind, Page, PageRequest, Reader, Window};
use uuid::Uuid;

use super::Read;

const SAMPLE: &str = include_str!("sample.sql");

/// A condition for changes and one for actions, over c, t and a: what a filter means, said in another way.
type Meaning = (&'static str, &'static str);

const NONE: &str = "false";

/// Each filter, and combinations of them.
const FILTERS: [(&str, Meaning); 37] = [
    ("", ("true", "true")),
    ("kind:change", ("true", NONE)),
    ("kind:action", (NONE, "a.correlation_id is distinct from a.id::text")),
    ("kind:event", (NONE, "a.correlation_id = a.id::text")),
    ("kind:recorded", (NONE, "true")),
    ("table:posts", ("c.table_name = 'posts'", NONE)),
    ("table:billing.posts", ("c.table_name = 'posts' and c.table_schema = 'billing'", NONE)),
    ("table:rare", ("c.table_name = 'rare'", NONE)),
    (
        "table:public.posts key:7",
        ("c.table_name = 'posts' and c.table_schema = 'public' and c.table_pk ->> 'id' = '7'", NONE),
    ),
    (r#"table:posts key:{"id":"10"}"#, ("c.table_name = 'posts' and c.table_pk ->> 'id' = '10'", NONE)),
    ("op:delete", ("c.op = 'delete'", NONE)),
    ("op:truncate", (NONE, NONE)),
    ("changed:price", ("c.op = 'update'", NONE)),
    ("changed:price before:3.50", ("c.changed_from ->> 'price' = '3.50'", NONE)),
    (
        "table:orders changed:price before:4.50 after:3.50",
        (
            "c.op = 'update' and c.table_name = 'orders' and c.changed_from ->> 'price' = '4.50' and c.data_after ->> 'price' = '3.50'",
            NONE,
        ),
    ),
    (
        "actor:user:u1",
        (
            r#"t.actor_ref @> '{"type": "user", "id": "u1"}'"#,
            r#"a.actor_ref @> '{"type": "user", "id": "u1"}'"#,
        ),
    ),
    (
        "actor:anonymous",
        (r#"t.actor_ref @> '{"type": "anonymous"}'"#, r#"a.actor_ref @> '{"type": "anonymous"}'"#),
    ),
    ("table:orders actor:admin:a3", ("t.actor_ref ->> 'id' = 'a3' and c.table_name = 'orders'", NONE)),
    (
        "op:insert actor:admin:a3 source:web",
        ("t.actor_ref ->> 'id' = 'a3' and c.op = 'insert' and t.source = 'web'", NONE),
    ),
    ("action:user.suspended", ("a.name = 'user.suspended'", "a.name = 'user.suspended'")),
    ("action:user.*", ("starts_with(a.name, 'user.')", "starts_with(a.name, 'user.')")),
    ("table:posts action:order.paid", ("a.name = 'order.paid' and c.table_name = 'posts'", NONE)),
    (
        "actor:user:u1 action:order.paid",
        (
            "a.name = 'order.paid' and t.actor_ref ->> 'id' = 'u1'",
            "a.name = 'order.paid' and a.actor_ref ->> 'id' = 'u1'",
        ),
    ),
    ("status:error", ("a.status = 'error'", "a.status = 'error'")),
    ("category:billing", ("a.category = 'billing'", "a.category = 'billing'")),
    ("correlation:c7", ("t.correlation_id = 'c7' or a.correlation_id = 'c7'", "a.correlation_id = 'c7'")),
    (
        "actor:user:u1 correlation:c7",
        (
            "(t.correlation_id = 'c7' or a.correlation_id = 'c7') and t.actor_ref ->> 'id' = 'u1'",
            "a.correlation_id = 'c7' and a.actor_ref ->> 'id' = 'u1'",
        ),
    ),
    (
        "kind:change status:ok correlation:c7",
        ("(t.correlation_id = 'c7' or a.correlation_id = 'c7') and a.status = 'ok'", NONE),
    ),
    ("request:r11", ("t.request_id = 'r11' or a.request_id = 'r11'", "a.request_id = 'r11'")),
    ("job:j1", ("t.job_id = 'j1' or a.job_id = 'j1'", "a.job_id = 'j1'")),
    (
        "source:web",
        (
            "t.source = 'web'",
            "(select f.source from audit_transactions f where f.action_id = a.id order by f.occurred_at, f.id limit 1) = 'web'",
        ),
    ),
    ("text:FRAUD", ("c.data_after::text ilike '%fraud%'", "a.reason ilike '%fraud%'")),
    ("text:100%", (NONE, r"a.reason ilike '%100\%%'")),
    ("text:d_u", (NONE, r"a.reason ilike '%d\_u%'")),
    (
        "from:2026-03-01T00:05:00Z to:2026-03-01T00:07:30Z",
        (
            "c.captured_at between '2026-03-01 00:05:00Z' and '2026-03-01 00:07:30Z'",
            "a.inserted_at between '2026-03-01 00:05:00Z' and '2026-03-01 00:07:30Z'",
        ),
    ),
    (
        "actor:user:u1 from:2026-03-01T00:05:00Z",
        (
            "t.occurred_at >= '2026-03-01 00:05:00Z' and t.actor_ref ->> 'id' = 'u1'",
            "a.inserted_at >= '2026-03-01 00:05:00Z' and a.actor_ref ->> 'id' = 'u1'",
        ),
    ),
    ("last:1s", (NONE, NONE)),
];

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
pub(crate) async fn walk(
    reader: &Reader,
    filter: &Filter,
    request: &PageRequest,
) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut request = request.clone();
    loop {
        let Page { entries: mut page, has_more, older, visited_to, .. } =
            reader.page(filter, &request).await?;
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
    for (text, meaning) in FILTERS {
        let filter: Filter = text.parse()?;
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
                    assert_eq!(ids.len(), entries.len(), "{text} {request:?}: one is there twice");
                    let missing: Vec<_> = meant.difference(&ids).collect();
                    let foreign: Vec<_> = ids.difference(&meant).collect();
                    assert!(
                        missing.is_empty() && foreign.is_empty(),
                        "{text} {request:?}: {} missing, such as {:?}; {} foreign, such as {:?}",
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
async fn a_text_is_found_whatever_json_makes_of_its_characters() -> anyhow::Result<()> {
    let texts = ["say \"so\"", "b\\s", "a\nb", "tab\there", "\u{1}", "100%", "naïve_İ"];
    let mut read = Read::after("create table notes (id text primary key, body text)").await?;
    super::capture(&mut read.connection, &[("notes", serde_json::json!({}))]).await?;
    for text in texts {
        sqlx::query("insert into notes values (gen_random_uuid()::text, $1)")
            .bind(format!("x {text} y"))
            .execute(&mut read.connection)
            .await?;
    }
    for text in texts {
        let filter = Filter { text: Some(text.to_owned()), ..Filter::default() };
        assert_eq!(read.reader().page(&filter, &PageRequest::default()).await?.entries.len(), 1, "{text:?}");
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
    for (text, _) in FILTERS {
        let filter: Filter = text.parse()?;
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
            let page = reader
                .page(&filter, &PageRequest { from: From::NewerThan(cursor), ..request.clone() })
                .await?;
            let mut ids: Vec<Uuid> = page.entries.iter().map(Entry::id).collect();
            ids.append(&mut back);
            back = ids;
            if !page.has_more {
                break;
            }
            cursor = page.newer.unwrap();
        }
        assert_eq!(back, there, "{text}");
    }
    Ok(())
}
