//! A whole table as it was at a time.

use serde_json::json;
use sqlx::Executor as _;
use threadline::query::{
    Scope,
    row::{At, TablePage},
};

use super::{Read, capture, library_database, table};

async fn images(read: &Read, name: &str, time: &str, size: u16) -> anyhow::Result<Vec<String>> {
    let reader = read.reader();
    let at: At = time.parse()?;
    let mut page = TablePage { size, ..TablePage::default() };
    let mut images = Vec::new();
    loop {
        let answer = reader.table_as_of(&table(name), &at, &page).await?;
        assert!(answer.rows.len() <= usize::from(size));
        images.extend(answer.rows.iter().map(|row| row.image.to_string()));
        let Some(next) = answer.next else { return Ok(images) };
        assert_eq!(answer.rows.len(), usize::from(size), "only the last page is shorter");
        page.after = Some(next);
    }
}

#[tokio::test]
async fn a_table_of_the_librarys_is_there_as_it_was() -> anyhow::Result<()> {
    let read = library_database().await?;
    let counters = [
        r#"{"n": 1, "id": 2, "note": "kept"}"#,
        r#"{"n": 1, "id": 4, "note": "kept too"}"#,
        r#"{"n": 3, "id": 7, "note": ""}"#,
        r#"{"n": 0, "id": 9007199254740993, "note": "cr\rhere"}"#,
    ];
    for size in [1, 2, 3, 4, 5, 1_000] {
        assert_eq!(images(&read, "counters", "2026-03-01T00:00:16.5Z", size).await?, counters, "{size}");
    }
    assert!(images(&read, "users", "2026-02-01", 10).await?.is_empty());
    let reader = read.reader();
    for size in [0, 1_001] {
        let page = TablePage { size, ..TablePage::default() };
        let error = reader.table_as_of(&table("users"), &At::latest(), &page).await.unwrap_err();
        assert_eq!(error.term(), Some("page_size"));
    }
    Ok(())
}

/// Keys that capture could not tell are no rows.
#[tokio::test]
async fn rows_without_a_key_and_rows_that_are_not_there_are_left_out() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.connection
        .execute(
            "insert into t select n, n from generate_series(1, 6) n; delete from t where id = 2; update t set id = 30 where id = 3;
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
             select t.id, 'public', 't', k.key::jsonb, 'insert', '{\"id\": null}'
             from (select id from audit_transactions limit 1) t cross join (values ('{}'), ('{\"id\": null}'), ('[]'), ('1')) k (key)",
        )
        .await?;
    let all = [
        r#"{"v": 1, "id": 1}"#,
        r#"{"v": 3, "id": 30}"#,
        r#"{"v": 4, "id": 4}"#,
        r#"{"v": 5, "id": 5}"#,
        r#"{"v": 6, "id": 6}"#,
    ];
    for size in [1, 2, 5, 6] {
        assert_eq!(images(&read, "t", "infinity", size).await?, all, "{size}");
    }
    let nobody = read.timeline.reader(Scope::of_context("tenant", "t1"));
    assert!(
        nobody.table_as_of(&table("public.t"), &At::latest(), &TablePage::default()).await?.rows.is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn a_partitioned_table_has_the_rows_of_all_its_partitions_whoever_recorded_them() -> anyhow::Result<()>
{
    let mut read = Read::after(
        "create table p (id int, region int, primary key (id, region)) partition by list (region);
         create table p1 partition of p for values in (1); create table p2 partition of p for values in (2);
         insert into p select n, 1 + n % 2 from generate_series(1, 4) n; insert into audit_transactions (txid) values (1);
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, position, captured_at)
         select t.id, 'public', p.tableoid::regclass::text, jsonb_build_object('id', p.id::text, 'region', p.region::text), 'insert',
                to_jsonb(p), 0, '2026-01-01' from p cross join audit_transactions t",
    )
    .await?;
    capture(&mut read.connection, &[("p", json!({}))]).await?;
    read.connection
        .execute("insert into p values (5, 1), (6, 2); truncate p1; insert into p values (7, 1)")
        .await?;
    let image = |id: i32, region: i32| format!(r#"{{"id": {id}, "region": {region}}}"#);
    for size in [1, 2, 10] {
        let before = images(&read, "p", "2026-01-02", size).await?;
        assert_eq!(before, [image(1, 2), image(2, 1), image(3, 2), image(4, 1)], "{size}");
        let after = images(&read, "p", "infinity", size).await?;
        assert_eq!(after, [image(1, 2), image(3, 2), image(6, 2), image(7, 1)], "{size}");
        let of_one = images(&read, "p1", "infinity", size).await?;
        assert_eq!(of_one, [image(7, 1)], "{size}");
    }
    Ok(())
}
