//! The second table of a rebuild: filled before it has the indexes that only find rows.

use std::collections::BTreeMap;

use sandbox::fixture::{TestDatabase, timeline_database};
use sqlx::{AssertSqlSafe, PgConnection};
use threadline::{
    AuditAction, StorageSchema,
    action::insert_batch,
    shadow::{Shadow, State},
};
use time::macros::datetime;
use uuid::Uuid;

use super::{
    action,
    shadow::{build_indexes, sql, swap},
};

/// Indexes of every kind that a host may have made.
const INDEXES: &str = r#"
    create collation host_order (locale = 'C');
    create index plain on audit_actions (job_id);
    create index "Of the same columns" on audit_actions (job_id);
    create index sorted on audit_actions (verb collate host_order text_pattern_ops desc nulls last, id) include (reason) with (fillfactor = 60);
    create index partial on audit_actions (request_id) where status = 'error' and request_id is not null;
    create index expressed on audit_actions (lower(name), (actor_ref ->> 'id'));
    create index hashed on audit_actions using hash (request_id);
    create index documents on audit_actions using gin (actor_ref jsonb_path_ops);
    create index blocks on audit_actions using brin (inserted_at) with (pages_per_range = 8);
    create unique index once on audit_actions (job_id) where job_id is not null;
    alter table audit_actions add constraint of_ids exclude using btree (id with =), add constraint at_all check (name <> 'never');
    create index unfinished on audit_actions (comment);
    comment on index sorted is 'for reports';
    alter table audit_actions cluster on sorted"#;

/// What an interrupted build leaves.
const UNFINISHED: &str = "update pg_index set indisvalid = false where indexrelid = 'unfinished'::regclass";

async fn begun(host: &str) -> anyhow::Result<(TestDatabase, PgConnection, Shadow)> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    sql(&mut connection, host).await?;
    let shadow = Shadow::of(&StorageSchema::default());
    shadow.create(&mut connection).await?;
    Ok((database, connection, shadow))
}

/// The indexes and constraints of a table by their names: what each is, its comment, whether the table is clustered on it, and whether it
/// is valid.
async fn shape(connection: &mut PgConnection, table: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select x.relname::text, concat_ws(' | ', i.indisunique, substring(pg_get_indexdef(x.oid) from ' USING .*'),
                                           obj_description(x.oid, 'pg_class'), i.indisclustered, i.indisvalid)
         from pg_index i join pg_class x on x.oid = i.indexrelid where i.indrelid = $1::text::regclass
         union all
         select 'constraint ' || k.conname, pg_get_constraintdef(k.oid) || k.convalidated::text
         from pg_constraint k where k.conrelid = $1::text::regclass and k.contype <> 'n'",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

#[tokio::test]
async fn the_new_table_has_every_index_and_constraint_of_the_old_one() -> anyhow::Result<()> {
    let (database, mut connection, shadow) = begun(INDEXES).await?;
    sql(&mut database.superuser().await?, UNFINISHED).await?;
    let before = shape(&mut connection, "audit_actions").await?;
    let while_filled = shape(&mut connection, "audit_actions_shadow").await?;
    let actions: Vec<AuditAction> = (1..=50).map(|n| action(Uuid::from_u128(n))).collect();
    assert_eq!(shadow.append(&mut connection, &actions).await?, 50);
    shadow.finish_filling(&mut connection).await?;
    let built = build_indexes(&mut connection, &shadow).await?;
    for (name, was_there) in
        [("plain", false), ("\"Of the same columns\"", false), ("once", true), ("of_ids", true)]
    {
        assert_eq!(built.iter().any(|one| one == name), !was_there, "{name}: {built:?}");
    }
    assert_eq!(
        while_filled.len() + built.len(),
        before.len(),
        "what may refuse a row is there from the beginning"
    );
    assert_eq!(build_indexes(&mut connection, &shadow).await?, Vec::<String>::new());
    swap(&mut connection, State::Filled).await?;
    let mut expected = before;
    // The likeness of an index that no build has finished is a finished one.
    if let Some(unfinished) = expected.get_mut("unfinished") {
        *unfinished = unfinished.replace("| f | f", "| f | t");
    }
    assert_eq!(shape(&mut connection, "audit_actions").await?, expected);
    Ok(())
}

#[tokio::test]
async fn an_index_that_is_made_while_the_new_table_is_filled_is_built_on_it_too() -> anyhow::Result<()> {
    let (_database, mut connection, shadow) = begun("").await?;
    sql(&mut connection, "create index late on audit_actions (verb)").await?;
    shadow.refuse_what_cannot_be_completed(&mut connection).await?;
    assert!(build_indexes(&mut connection, &shadow).await?.contains(&"late".to_owned()));
    sql(&mut connection, "create unique index later on audit_actions (request_id)").await?;
    let refused = shadow.refuse_what_cannot_be_completed(&mut connection).await.unwrap_err().to_string();
    assert!(refused.contains("only audit_actions has unique index using btree (request_id)"), "{refused}");
    Ok(())
}

/// Texts that mean something in the format of a copy, or look as if they did.
const TEXTS: [&str; 12] = [
    "",
    "\\",
    "\\N",
    "\\.",
    "\t",
    "\n",
    "\r\n",
    "\u{8}\u{b}\u{c}\u{7f}",
    "a\\tb\\\\",
    "\"quoted\", 'too'",
    "ä\u{1F600}\u{2028}",
    " both ends ",
];

#[tokio::test]
async fn actions_are_copied_as_they_would_be_inserted() -> anyhow::Result<()> {
    let (_database, mut connection, shadow) = begun("").await?;
    let schema = StorageSchema::default();
    let times = [
        datetime!(2026-05-15 12:00:00.123457 UTC),
        datetime!(0001-01-01 00:00:00 UTC),
        datetime!(-0043-03-15 11:30:00.000001 UTC),
        datetime!(9999-12-31 23:59:59.999999 UTC),
        datetime!(1969-12-31 23:59:59.5 -02:00),
    ];
    let mut actions = Vec::new();
    for (n, text) in (1_u128..).zip(TEXTS) {
        let mut action = action(Uuid::from_u128(n));
        action.name = format!("n{text}");
        action.actor = threadline::ActorRef::new(threadline::ActorType::User, Some(format!("u{text}")))?;
        action.verb = Some(text.to_owned());
        action.reason = Some(text.repeat(3));
        action.comment = (n % 2 == 0).then(|| format!("{text}{text}"));
        action.inserted_at = times[actions.len() % times.len()];
        actions.push(action);
    }
    insert_batch(&mut connection, &schema.actions(), &actions).await?;
    sql(&mut connection, "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kathmandu'").await?;
    assert_eq!(shadow.append(&mut connection, &actions).await?, 12);
    let differing: i64 = sqlx::query_scalar(
        "select count(*) from audit_actions a full join audit_actions_shadow s using (id)
         where to_jsonb(a) - 'txid' is distinct from to_jsonb(s) - 'txid'",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(differing, 0);
    assert_eq!(shadow.last_id(&mut connection).await?, Some(Uuid::from_u128(12)));
    Ok(())
}

#[tokio::test]
async fn what_is_there_already_and_what_a_host_keeps_out_is_not_copied() -> anyhow::Result<()> {
    let (_database, mut connection, shadow) =
        begun("create unique index once on audit_actions (request_id)").await?;
    assert_eq!(shadow.last_id(&mut connection).await?, None);
    let of = |n: u128, request: u128| {
        let mut action = action(Uuid::from_u128(n));
        action.request_id = Some(request.to_string());
        action
    };
    assert_eq!(shadow.append(&mut connection, &[of(1, 1), of(2, 2)]).await?, 2);
    assert_eq!(shadow.append(&mut connection, &[of(2, 2), of(3, 1), of(4, 4)]).await?, 1);
    let mut there: Vec<String> =
        sqlx::query_scalar("select request_id from audit_actions_shadow").fetch_all(&mut connection).await?;
    there.sort();
    assert_eq!(there, ["1", "2", "4"]);
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_filled_says_so() -> anyhow::Result<()> {
    let (_database, mut connection, shadow) =
        begun("insert into audit_actions (name, actor_ref, status) values ('host.own', '{}', 'ok')").await?;
    assert_eq!(shadow.state(&mut connection).await?, State::Filling);
    assert_eq!(shadow.finish_filling(&mut connection).await?, 1);
    assert_eq!(shadow.state(&mut connection).await?, State::Filled);
    let statement = "select obj_description('audit_actions_shadow'::regclass, 'pg_class')";
    let said: String = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await?;
    assert!(said.starts_with("threadline: "), "{said}");
    Ok(())
}
