//! Questions about rows, asked by a tenant whose rows have the keys of another one's.

use sqlx::Executor as _;
use threadline::query::{
    Key, Reader, Table, Undo,
    row::{At, ChildrenRequest, RowPage, TablePage},
};
use uuid::Uuid;

use super::{
    Read,
    scope::others,
    tenants::{TENANTS, scopes},
};

/// The host's tables: what is in them now is the other tenant's.
const HOST: &str = "create table posts (id text primary key, tenant text, text text);
    create table comments (id int primary key, post text references posts, text text);
    insert into posts select n::text, 'OTHERS', 'OTHERS' from generate_series(0, 4) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select c.transaction_id, 'public', 'comments', jsonb_build_object('id', row_number() over ()::text), 'insert',
           jsonb_build_object('id', row_number() over (), 'post', c.table_pk ->> 'id', 'tenant', t.source, 'text', t.source), c.captured_at
    from audit_changes c join audit_transactions t on t.id = c.transaction_id";

fn text<T: serde::Serialize, E: std::fmt::Debug>(answer: Result<T, E>) -> Result<String, String> {
    answer.map(|answer| serde_json::to_string(&answer).unwrap()).map_err(|error| format!("{error:?}"))
}

async fn answers(reader: &Reader, key: &str, changes: &[Uuid]) -> Vec<(&'static str, String)> {
    let table: Table = "public.posts".parse().unwrap();
    let key: Key = key.parse().unwrap();
    let mut answers = Vec::new();
    let mut say = |what, answer: Result<String, String>| {
        answers.push((what, answer.unwrap_or_else(|error| error)));
    };
    match reader.row(&table, &key).await {
        Ok(row) => {
            let page = RowPage { size: 3, ..RowPage::default() };
            say("history", text(reader.row_history(&row, &page).await));
            for at in [At::latest(), "2026-03-01T00:00:30Z".parse().unwrap()] {
                say("as of", text(reader.as_of(&row, &at).await));
                say("blame", text(reader.blame(&row, &at).await));
                let request = ChildrenRequest::default();
                say("children", text(reader.as_of_with_children(&row, &at, &request).await));
            }
        }
        Err(error) => say("row", Err(format!("{error:?}"))),
    }
    say("table", text(reader.table_as_of(&table, &At::latest(), &TablePage::default()).await));
    for change in changes {
        say("undo", text(reader.undo_plan(Undo::Change(*change)).await));
    }
    answers
}

#[tokio::test]
async fn nobody_is_told_anything_of_another_tenants_rows() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    read.connection.execute(HOST).await?;
    let changes: Vec<Uuid> = sqlx::query_scalar("select id from audit_changes where table_name = 'posts'")
        .fetch_all(&mut read.connection)
        .await?;
    let mut own = 0;
    for (name, scope) in scopes() {
        let reader = read.timeline.reader(scope);
        for key in ["0", "3", r#"{"id":"1"}"#] {
            for (what, answer) in answers(&reader, key, &changes).await {
                assert!(!others(&answer), "{name}: {what} of {key}: {answer}");
                own += usize::from(answer.contains("MINE"));
            }
        }
    }
    assert!(own > 50, "{own} answers are of one's own rows");
    Ok(())
}
