//! The second table of a rebuild: like the first in everything, or not swapped.

use sandbox::fixture::{TestDatabase, timeline_database};
use sqlx::{AssertSqlSafe, PgConnection};
use threadline::{
    StorageSchema,
    shadow::{Shadow, ShadowError, State},
};
use uuid::Uuid;

use super::action;

/// A timeline with everything that a host may give to its table and that a second table can be given as well.
const HOST: &str = "
    create collation host_order (locale = 'C');
    alter table audit_actions add column tenant text collate host_order not null default 'none' check (tenant <> ''),
        add column size bigint generated always as (length(name)) stored, add column nth bigint generated always as identity,
        add column old_nth bigserial, add constraint once exclude using btree (id with =, tenant with =),
        set (fillfactor = 80, autovacuum_enabled = off), set (toast.autovacuum_enabled = off), replica identity full,
        alter column name set statistics 500, alter column name set (n_distinct = 7), alter column comment set storage external;
    alter table audit_actions cluster on audit_actions_name_page_idx;
    create unique index on audit_actions (tenant, id) where tenant <> 'none';
    create statistics host on name, category from audit_actions;
    comment on column audit_actions.tenant is 'whose';
    comment on index audit_actions_name_page_idx is 'for reports';
    grant select on audit_actions to public;
    grant update (comment) on audit_actions to audit_reconciler with grant option;
    revoke truncate on audit_actions from owner;
    alter default privileges for role owner grant delete on tables to audit_projector";

pub(crate) async fn sql(connection: &mut PgConnection, statements: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await?;
    Ok(())
}

pub(crate) async fn swap(connection: &mut PgConnection, from: State) -> Result<(), ShadowError> {
    Shadow::of(&StorageSchema::default()).swap(connection, from, &mut async || Ok(())).await
}

async fn refusal(connection: &mut PgConnection, from: State) -> String {
    match swap(connection, from).await {
        Err(ShadowError::Incompatible(why)) => why,
        other => panic!("{other:?}"),
    }
}

async fn with_second_table(host: &str) -> anyhow::Result<(TestDatabase, PgConnection, Shadow)> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    sql(&mut connection, host).await?;
    let shadow = Shadow::of(&StorageSchema::default());
    shadow.create(&mut connection).await?;
    build_indexes(&mut connection, &shadow).await?;
    Ok((database, connection, shadow))
}

/// Builds what the second table lacks; returns the names of the first table's.
pub(crate) async fn build_indexes(
    connection: &mut PgConnection,
    shadow: &Shadow,
) -> anyhow::Result<Vec<String>> {
    let lacking = shadow.lacking_indexes(connection).await?;
    for index in &lacking {
        shadow.build_index(connection, index).await?;
    }
    Ok(lacking.into_iter().map(|index| index.name).collect())
}

async fn oid(connection: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("select 'audit_actions'::regclass::oid::bigint").fetch_one(connection).await?)
}

#[tokio::test]
async fn the_second_table_is_made_like_the_first_in_everything_that_a_host_has_given_it() -> anyhow::Result<()>
{
    let (_database, mut connection, shadow) = with_second_table(HOST).await?;
    shadow.refuse_what_would_be_undone(&mut connection).await?;
    for from in [State::Filling, State::Kept, State::Kept] {
        swap(&mut connection, from).await?;
        shadow.refuse_what_would_be_undone(&mut connection).await?;
    }
    let owner: String = sqlx::query_scalar("select pg_get_serial_sequence('audit_actions', 'old_nth')")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(owner, "public.audit_actions_old_nth_seq", "the sequence goes with the table");
    shadow.remove(&mut connection).await?;
    assert_eq!(shadow.state(&mut connection).await?, State::None);
    Ok(())
}

/// What a host does between the two halves of a rebuild, what takes it back, and how the refusal calls it.
const CHANGES: [(&str, &str, &str); 24] = [
    (
        "create index host_idx on audit_actions (verb)",
        "drop index host_idx",
        "only audit_actions has index using btree (verb)",
    ),
    (
        "create unique index host_idx on audit_actions (verb)",
        "drop index host_idx",
        "only audit_actions has unique index using btree (verb)",
    ),
    (
        "alter table audit_actions add constraint host check (name <> 'x')",
        "alter table audit_actions drop constraint host",
        "only audit_actions has constraint host CHECK",
    ),
    (
        "alter table audit_actions drop constraint audit_actions_status_check",
        "alter table audit_actions add constraint audit_actions_status_check check (status in ('ok', 'error'))",
        "only audit_actions_shadow has constraint audit_actions_status_check CHECK",
    ),
    (
        "alter table audit_actions add column tenant text",
        "alter table audit_actions drop column tenant",
        "only audit_actions has column tenant text",
    ),
    (
        "alter table audit_actions alter column verb type varchar(90)",
        "alter table audit_actions alter column verb type text",
        "only audit_actions has column verb character varying(90); only audit_actions_shadow has column verb text",
    ),
    (
        "alter table audit_actions alter column verb set default 'none'",
        "alter table audit_actions alter column verb drop default",
        "only audit_actions has default of column verb: 'none'::text",
    ),
    (
        "alter table audit_actions alter column verb set not null",
        "alter table audit_actions alter column verb drop not null",
        "only audit_actions has not null of column verb",
    ),
    (
        "comment on column audit_actions.verb is 'what'",
        "comment on column audit_actions.verb is null",
        "only audit_actions has comment on column verb: 'what'",
    ),
    (
        "comment on index audit_actions_name_page_idx is 'what'",
        "comment on index audit_actions_name_page_idx is null",
        "its comment 'what'",
    ),
    (
        "revoke select on audit_actions from audit_reconciler",
        "grant select on audit_actions to audit_reconciler",
        "only audit_actions_shadow has grant of select to audit_reconciler",
    ),
    (
        "grant update (verb) on audit_actions to public",
        "revoke update (verb) on audit_actions from public",
        "only audit_actions has grant of update (verb) to public",
    ),
    (
        "alter table audit_actions owner to postgres",
        "alter table audit_actions owner to owner",
        "only audit_actions has owner postgres; only audit_actions_shadow has owner owner. A swap",
    ),
    (
        "alter table audit_actions set (fillfactor = 70)",
        "alter table audit_actions reset (fillfactor)",
        "only audit_actions has storage parameter fillfactor=70",
    ),
    (
        "alter table audit_actions replica identity full",
        "alter table audit_actions replica identity default",
        "only audit_actions has replica identity full",
    ),
    (
        "alter table audit_actions force row level security",
        "alter table audit_actions no force row level security",
        "only audit_actions has row level security of its owner",
    ),
    (
        "create statistics host on name, verb from audit_actions",
        "drop statistics host",
        "only audit_actions has statistics (d, f, m) on name, verb",
    ),
    (
        "alter table audit_actions enable row level security",
        "alter table audit_actions disable row level security",
        "leave behind what belongs to it or depends on it: row level security",
    ),
    (
        "create policy host on audit_actions using (true)",
        "drop policy host on audit_actions",
        "leave behind what belongs to it or depends on it: policy host",
    ),
    (
        "create trigger host before update on audit_actions for each row execute function suppress_redundant_updates_trigger()",
        "drop trigger host on audit_actions",
        "leave behind what belongs to it or depends on it: trigger host",
    ),
    (
        "create view host as select name from audit_actions",
        "drop view host",
        "leave behind what belongs to it or depends on it: view host",
    ),
    (
        "create index host_idx on audit_actions_shadow (verb)",
        "drop index host_idx",
        "only audit_actions_shadow has index using btree (verb)",
    ),
    (
        "create policy host on audit_actions_shadow using (true)",
        "drop policy host on audit_actions_shadow",
        "only audit_actions_shadow has policy host",
    ),
    (
        "alter table audit_actions disable trigger all; alter table audit_actions enable trigger all",
        "alter table audit_actions enable always trigger audit_actions_journal;
         alter table audit_actions enable always trigger audit_actions_journal_truncate",
        "were dropped or switched off",
    ),
];

#[tokio::test]
async fn a_swap_in_either_direction_refuses_what_it_would_undo_and_changes_nothing() -> anyhow::Result<()> {
    let (database, mut connection, _) = with_second_table("").await?;
    let mut superuser = database.superuser().await?;
    for from in [State::Filling, State::Kept] {
        let before = oid(&mut connection).await?;
        for (change, back, words) in CHANGES {
            sql(&mut superuser, change).await?;
            let why = refusal(&mut superuser, from).await;
            assert!(why.contains(words), "{change}: {why}");
            assert!(
                why.contains("--drop-old") || why.contains("recreate it afterwards"),
                "the remedy: {why}"
            );
            assert_eq!(oid(&mut connection).await?, before, "{change}");
            sql(&mut superuser, back).await?;
        }
        // The same on both sides is no difference.
        for table in ["audit_actions", "audit_actions_shadow"] {
            sql(&mut superuser, &format!("alter table {table} add column of_{from:?} text unique")).await?;
        }
        swap(&mut superuser, from).await?;
        assert_ne!(oid(&mut connection).await?, before);
    }
    Ok(())
}

/// Not before PostgreSQL 15.
const ROWS_PUBLISHED: &str = "create publication host for table audit_actions where (status = 'ok')";
const SCHEMA_PUBLISHED: &str = "create publication host for tables in schema public";

/// Objects of a host that point to the table by its identity, and how the refusal calls each.
const DEPENDENTS: [(&str, &str); 15] = [
    (
        "create function host() returns bigint begin atomic select count(*) from audit_actions; end",
        "function public.host()",
    ),
    (
        "create function host(audit_actions) returns text language sql as 'select $1.name'",
        "function public.host(public.audit_actions)",
    ),
    (
        "create function host() returns setof audit_actions language plpgsql as 'begin return; end'",
        "function public.host()",
    ),
    ("create table host (kept audit_actions[])", "column kept of table public.host"),
    ("create table host (which regclass default 'audit_actions'::regclass)", "which of table public.host"),
    ("create materialized view host as select name from audit_actions", "materialized view host"),
    ("create view host as select a from audit_actions a", "view host"),
    ("create rule host as on delete to audit_actions do also notify host", "rule host"),
    ("create table host () inherits (audit_actions)", "table public.host"),
    ("create publication host for table audit_actions", "publication host"),
    (ROWS_PUBLISHED, "publication host"),
    (SCHEMA_PUBLISHED, "publication host"),
    ("create publication host for all tables", "publication host for all tables"),
    (
        "create table host (id uuid references audit_actions) partition by hash (id)",
        "a foreign key of a partitioned table, host_id_fkey",
    ),
    (
        "create table host (id int); create policy mine on host using (exists (select from audit_actions))",
        "policy mine on table public.host",
    ),
];

#[tokio::test]
async fn whatever_points_to_the_table_by_its_identity_is_named_and_refused() -> anyhow::Result<()> {
    let shadow = Shadow::of(&StorageSchema::default());
    for (object, words) in DEPENDENTS {
        let database = timeline_database().await?;
        let mut superuser = database.superuser().await?;
        let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut superuser)
            .await?;
        if version < 150_000 && [ROWS_PUBLISHED, SCHEMA_PUBLISHED].contains(&object) {
            continue;
        }
        sql(&mut superuser, object).await?;
        sql(&mut superuser, "set search_path = pg_catalog").await?;
        let why = match shadow.create(&mut superuser).await {
            Err(ShadowError::Incompatible(why)) => why,
            other => panic!("{object}: {other:?}"),
        };
        assert!(why.contains(&format!("{words}. Remove it")), "{object}: {why}");
        assert_eq!(shadow.state(&mut superuser).await?, State::None, "nothing was made");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_left_of_a_rebuild_whose_second_table_was_dropped_is_removed() -> anyhow::Result<()> {
    let (_database, mut connection, shadow) = with_second_table("").await?;
    for dropped in [
        "drop table audit_actions_shadow",
        "drop table audit_actions_shadow, audit_actions_journal",
        "drop table audit_actions_shadow, audit_actions_journal; drop function audit_actions_journal() cascade",
    ] {
        sql(&mut connection, dropped).await?;
        shadow.create(&mut connection).await?;
        assert_eq!(shadow.state(&mut connection).await?, State::Filling, "{dropped}");
        let row = "insert into audit_actions (name, actor_ref, status) values ('host.own', '{}', 'ok')";
        sql(&mut connection, row).await?;
        assert!(shadow.waits(&mut connection, 0).await?, "changes are recorded");
        assert!(!shadow.waits(&mut connection, 1).await?, "once");
    }
    sql(&mut connection, "drop table audit_actions_shadow").await?;
    assert_eq!(shadow.state(&mut connection).await?, State::Abandoned);
    shadow.remove(&mut connection).await?;
    assert_eq!(shadow.state(&mut connection).await?, State::None);
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_writes_to_the_table_is_named_and_refused() -> anyhow::Result<()> {
    let database = timeline_database().await?;
    let mut superuser = database.superuser().await?;
    // As `refresh publication` would record it, without the publisher that it needs.
    sql(
        &mut superuser,
        "create subscription incoming connection 'dbname=nowhere' publication theirs with (connect = false, slot_name = none);
         set allow_system_table_mods = on;
         insert into pg_subscription_rel
         select s.oid, 'audit_actions'::regclass, 'r', null from pg_subscription s where s.subname = 'incoming'",
    )
    .await?;
    let refused = Shadow::of(&StorageSchema::default()).create(&mut superuser).await;
    sql(&mut superuser, "drop subscription incoming").await?;
    assert!(
        matches!(&refused, Err(ShadowError::Incompatible(why)) if why.contains("subscription incoming. Remove it")),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn tables_of_these_names_that_no_rebuild_has_made_are_known_as_such() -> anyhow::Result<()> {
    for own in [
        "create table audit_actions_shadow (id uuid)",
        "create table audit_actions_shadow (like audit_actions); comment on table audit_actions_shadow is 'mine'",
        "create view audit_actions_shadow as select 1 as id",
        "create table audit_actions_journal (id uuid, note text)",
    ] {
        let mut connection = timeline_database().await?.connect().await?;
        sql(&mut connection, own).await?;
        let shadow = Shadow::of(&StorageSchema::default());
        assert_eq!(shadow.state(&mut connection).await?, State::Foreign, "{own}");
    }
    Ok(())
}

async fn numbered(connection: &mut PgConnection) -> anyhow::Result<Vec<(String, i64, i32, Option<String>)>> {
    let rows = sqlx::query_as("select name, nth, old_nth, tenant::text from audit_actions order by nth");
    Ok(rows.fetch_all(connection).await?)
}

#[tokio::test]
async fn numbers_that_the_server_gives_to_rows_are_kept_and_never_given_twice() -> anyhow::Result<()> {
    let host = "
        alter table audit_actions add column nth bigint generated always as identity unique, add column old_nth serial unique,
            add column size int generated always as (length(name)) stored, add column tenant json;
        insert into audit_actions (id, name, actor_ref, status, tenant)
        select gen_random_uuid(), 'a' || n, '{}', 'ok', '{\"a\": 1}' from generate_series(1, 3) n";
    let (_database, mut connection, shadow) = with_second_table(host).await?;
    assert!(shadow.has_own_columns(&mut connection).await?);
    shadow.carry_over(&mut connection).await?;
    // One that is in neither table, one that is in the first, and one that comes meanwhile.
    let (new, old) = (Uuid::new_v4(), Uuid::new_v4());
    let recorded: Uuid = sqlx::query_scalar(
        "insert into audit_actions (id, name, actor_ref, status, tenant) values ($1, 'a4', '{}', 'ok', '[]') returning id",
    )
    .bind(old)
    .fetch_one(&mut connection)
    .await?;
    shadow.copy(&mut connection, &[recorded]).await?;
    let named = |id: Uuid, name: &str| {
        let mut action = action(id);
        name.clone_into(&mut action.name);
        action
    };
    let taken = "select last_value from audit_actions_old_nth_seq";
    let taken_before: i64 = sqlx::query_scalar(taken).fetch_one(&mut connection).await?;
    for _ in 0..3 {
        shadow.overwrite(&mut connection, &[named(new, "new"), named(old, "renamed")], true).await?;
    }
    let taken: i64 = sqlx::query_scalar(taken).fetch_one(&mut connection).await?;
    assert_eq!(taken - taken_before, 1, "a row that is there takes no other number");
    sql(
        &mut connection,
        "insert into audit_actions (name, actor_ref, status, tenant) values ('a6', '{}', 'ok', '[]')",
    )
    .await?;
    shadow.carry_over(&mut connection).await?;
    assert_eq!(shadow.foreign_differences(&mut connection, None).await?, [old], "its name");
    let before = numbered(&mut connection).await?;
    swap(&mut connection, State::Filling).await?;
    sql(
        &mut connection,
        "insert into audit_actions (name, actor_ref, status, tenant) values ('a7', '{}', 'ok', '[]')",
    )
    .await?;
    let after = numbered(&mut connection).await?;
    let in_order: Vec<&str> = after.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        in_order,
        ["a1", "a2", "a3", "renamed", "new", "a6", "a7"],
        "each under the number that is its own"
    );
    for (name, nth, old_nth, tenant) in before {
        let name = if name == "a4" { "renamed".to_owned() } else { name };
        assert!(after.contains(&(name, nth, old_nth, tenant)), "{after:?}");
    }
    Ok(())
}
