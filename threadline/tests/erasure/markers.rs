//! Over random rows and policies: what was erased stands in no table of the timeline, what was not stands where it stood, and receipts verify.

use std::{cell::RefCell, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::erasure::{Erasure, ErasureOptions, ErasurePolicy};

use super::{Host, host, row, table, terms, with_key};

/// Of one case.
const DEADLINE: Duration = Duration::from_secs(60);

/// What becomes of posts: an author, a post, what happens to it, and with which document beside it.
type Step = (u8, u8, u8, u8);

/// What is erased, and how: a kind, which one, which columns, and rows of a batch.
type Asked = (u8, u8, u8, u32);

/// Texts that are hostile to whoever quotes them.
const ODD: [&str; 4] = ["", "\\\" ]}", "''; --", "[ERASED] é\u{1F600}"];

fn text(author: u8, post: u8, n: usize, odd: u8) -> String {
    format!("marker-{author}-{post}-{n}x{}", ODD[usize::from(odd) % ODD.len()])
}

async fn write(host: &mut Host, steps: &[Step]) -> anyhow::Result<()> {
    host.run("truncate users, posts, notes").await?;
    host.run("truncate audit_changes, audit_transactions, audit_actions, threadline_receipts, threadline_receipt_leaves, threadline_erasures, threadline_evidence_records").await?;
    for (n, (author, post, what, odd)) in steps.iter().enumerate() {
        let body = text(*author, *post, n, *odd).replace('\'', "''");
        let meta = ["null", "'7'", "'[\"marker-meta\", 1e300]'", "'{\"k\": 1.10}'"][usize::from(*odd) % 4];
        let sql = match what % 5 {
            0 => format!(
                "insert into posts values ({post}, {author}, '{body}', {meta}) on conflict do nothing"
            ),
            1 => format!("update posts set body = '{body}' where id = {post}"),
            2 => format!("update posts set meta = {meta} where id = {post}"),
            3 => format!(
                "update posts set id = id + 10 where id = {post} and not exists (select from posts p where p.id = {post} + 10)"
            ),
            _ => format!("delete from posts where id = {post}"),
        };
        host.connection
            .execute(AssertSqlSafe(format!(
                "begin; select set_config('threadline.actor_ref', '{{\"type\": \"user\", \"id\": \"marker-actor-{author}x\"}}', true); {sql}; commit"
            )))
            .await?;
    }
    host.seal().await
}

fn erasure((kind, which, columns, _): Asked) -> Erasure {
    let which = which % 4;
    match kind % 4 {
        0 => row("posts", which),
        1 => with_key(row("posts", which)),
        2 => super::actor("user", &format!("marker-actor-{which}x"), true),
        _ => {
            let columns: &[&str] = if columns % 2 == 0 { &["body"] } else { &["body", "author_id", "meta"] };
            let policy = ErasurePolicy::default().table(table("posts"), "author_id", columns.to_vec());
            Erasure::Person { id: which.to_string(), policy }
        }
    }
}

async fn check(host: &mut Host, steps: &[Step], asked: &[Asked]) -> anyhow::Result<()> {
    write(host, steps).await?;
    for ask in asked {
        let erasure = erasure(*ask);
        let images = "select c::text from (select id, op, changed_fields, captured_at, position, transaction_id from audit_changes order by position) c";
        let before = host.texts(images).await?;
        let dry = host.dry_run(&erasure).await?;
        let mut options = ErasureOptions::because("request R-98765");
        (options.batch_size, options.sleep) = (1 + ask.3 % 7, Duration::ZERO);
        let erased = host.timeline.erase(&erasure, &options).await?;
        anyhow::ensure!(dry.counts == erased.counts, "{erasure:?}: {dry:?} {erased:?}");
        anyhow::ensure!(erased.is_complete && !erased.has_more_keys, "{erased:?}");
        anyhow::ensure!(host.texts(images).await? == before, "{erasure:?}: what is not erased has changed");
        anyhow::ensure!(host.dry_run(&erasure).await?.counts.total_rows() == 0, "{erasure:?}: not all of it");
        let left = match &erasure {
            Erasure::Actor { actor, .. } => host.tables_with(actor.id().unwrap()).await?,
            // A body of a row that a person is the author of, in whatever image.
            Erasure::Person { id, .. } => host
                .texts(&format!(
                    "select table_pk::text from audit_changes where table_name = 'posts'
                     and (data_after ->> 'author_id' = '{id}' or data_before ->> 'author_id' = '{id}')
                     and concat(data_after ->> 'body', data_before ->> 'body', changed_from ->> 'body') like '%marker%'"
                ))
                .await?,
            Erasure::Row { .. } => host
                .texts(&format!(
                    "select table_pk::text from audit_changes where table_name = 'posts' and table_pk = '{{\"id\": \"{}\"}}'
                     and concat(data_after, data_before, changed_from) like '%marker%'",
                    ask.1 % 4
                ))
                .await?,
        };
        anyhow::ensure!(left.is_empty(), "{erasure:?}: {left:?}");
        for found in host.both().await? {
            anyhow::ensure!(found.holds(), "{erasure:?}: {:?} {:?}", terms(&found), found.faults.listed);
        }
    }
    Ok(())
}

#[test]
fn what_was_erased_stands_nowhere_and_receipts_verify() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let host = RefCell::new(runtime.block_on(host()).unwrap());
    let config = Config { cases: 24, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec((0..4_u8, 0..4_u8, any::<u8>(), any::<u8>()), 1..25);
    let asked = proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u32>()), 1..4);
    TestRunner::new(config)
        .run(&(steps, asked), |(steps, asked)| {
            let mut host = host.borrow_mut();
            let checked = runtime
                .block_on(async { tokio::time::timeout(DEADLINE, check(&mut host, &steps, &asked)).await });
            match checked {
                Ok(checked) => checked.map_err(|error| TestCaseError::fail(format!("{error:#}"))),
                Err(_) => Err(TestCaseError::fail(format!("not done in {DEADLINE:?}"))),
            }
        })
        .unwrap();
}
