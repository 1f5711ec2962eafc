//! Whoever writes, however their session is set, and whatever becomes of the table meanwhile.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{both_levels, capture, changes, host};

#[tokio::test]
async fn a_writer_needs_no_right_on_the_timeline() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (database, mut connection) = host("create table notes (id int primary key, body text)").await?;
        let hashed = json!({"level": policy["level"], "hash": ["body"]});
        capture(&mut connection, &[("notes", hashed)]).await?;
        let writer = format!("writer_{}", database.name());
        let mut superuser = database.superuser().await?;
        superuser
            .execute(AssertSqlSafe(format!(
                "create role {writer}; grant insert, update, delete, select, truncate on notes to {writer}; set role {writer}"
            )))
            .await?;
        superuser
            .execute("insert into notes values (1, 'a'); update notes set body = 'b'; delete from notes; truncate notes")
            .await?;
        for forbidden in [
            "select from audit_changes",
            "select from threadline_hash_keys",
            "select threadline_hmac('default', 'a')",
            "select threadline_transaction_id()",
        ] {
            assert!(superuser.execute(forbidden).await.is_err(), "{forbidden}");
        }
        superuser
            .execute(AssertSqlSafe(format!("reset role; drop owned by {writer}; drop role {writer}")))
            .await?;
        assert_eq!(changes(&mut connection).await?.len(), 4);
    }
    Ok(())
}

/// A schema before everything else in which every operator and function that a body uses is somebody else's.
async fn hostile_path(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection
        .execute(
            "create schema evil;
             create function evil.trap() returns int language plpgsql as $$begin raise exception 'trapped'; end$$;
             do $$
             declare o record; f record; n int := 0;
             begin
                 for o in select distinct oprname, oprleft::regtype::text as l, oprright::regtype::text as r
                          from pg_operator
                          where oprnamespace = 'pg_catalog'::regnamespace and oprleft <> 0
                            and oprname in ('=', '<>', '||', '-', '+', '>=', '>', '->', '->>', '?', '?&', '&&', '<<', '|', '#')
                            and oprleft::regtype::text !~ '^any' and oprright::regtype::text !~ '^any'
                            and oprleft in ('text'::regtype, 'jsonb'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype,
                                            'timestamptz'::regtype, 'text[]'::regtype, 'name'::regtype, 'bytea'::regtype)
                 loop
                     n := n + 1;
                     execute format('create function evil.f%s(%s, %s) returns boolean language plpgsql as
                         $f$begin raise exception ''trapped''; end$f$', n, o.l, o.r);
                     execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.f%s)', o.oprname, o.l, o.r, n);
                 end loop;
                 for f in select distinct p.proname, pg_get_function_identity_arguments(p.oid) as arguments
                          from pg_proc p
                          where p.pronamespace = 'pg_catalog'::regnamespace and p.provariadic = 0 and p.prokind = 'f'
                            and p.proname in ('to_jsonb', 'jsonb_each', 'clock_timestamp', 'current_setting', 'lower', 'txid_current',
                                              'jsonb_typeof', 'octet_length', 'sha256', 'encode', 'cardinality',
                                              'transaction_timestamp', 'row_to_json', 'record_send', 'get_byte')
                            and pg_get_function_identity_arguments(p.oid) !~ '(any|record|internal|OUT)'
                 loop
                     execute format('create function evil.%I(%s) returns int language plpgsql as
                         $f$begin raise exception ''trapped''; end$f$', f.proname, f.arguments);
                 end loop;
             end $$;
             create type evil.jsonb as enum ('trapped'); create type evil.text as enum ('trapped');
             create type evil.uuid as enum ('trapped'); create domain evil.int8 as int check (value < 0);
             create temp table audit_changes (trapped int); create temp table audit_transactions (trapped int);
             create temp table new_rows (trapped int); create temp table old_rows (trapped int)",
        )
        .await?;
    connection.execute("set search_path to evil, pg_temp, public, pg_catalog").await?;
    Ok(())
}

#[tokio::test]
async fn nothing_of_the_writers_search_path_is_called() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) = host(
            "create table notes (id int primary key, body text, ssn text, secret text, document jsonb);
             create table library (id int primary key, body text)",
        )
        .await?;
        let more =
            json!({"mask": ["secret"], "hash": ["ssn"], "paths": ["document.token"], "except": ["body"]});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        capture(&mut connection, &[("notes", policy)]).await?;
        connection
            .execute(
                "create trigger threadline_audit_library after insert or update or delete on library
                 for each row execute function threadline_capture_changes('id')",
            )
            .await?;
        hostile_path(&mut connection).await?;
        connection
            .execute(
                "begin; set local threadline.actor_ref = '{\"type\": \"user\", \"id\": \"u\"}'; set local threadline.context = '{not';
                 insert into public.notes values ('1', 'a', 's', 'x', '{\"token\": [1]}'), ('2', 'a', 's', 'x', null); commit",
            )
            .await?;
        for statement in [
            "update public.notes set ssn = 't', secret = 'y', document = '{\"token\": 2}'",
            "update public.notes set id = '7', document = null where ssn operator(pg_catalog.=) 't' and secret is not null and ctid operator(pg_catalog.=) '(0,3)'",
            "delete from public.notes",
            "insert into public.library values ('1', 'a')",
            "update public.library set body = 'b'",
            "delete from public.library",
            "truncate public.notes",
        ] {
            connection.execute(statement).await?;
        }
        connection
            .execute("reset search_path; drop table pg_temp.audit_changes, pg_temp.audit_transactions")
            .await?;
        assert_eq!(changes(&mut connection).await?.len(), 2 + 2 + 1 + 2 + 3 + 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_stays_open_survives_what_becomes_of_the_columns() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (database, mut connection) =
            host("create table notes (id int primary key, a text, b jsonb, c int)").await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        let mut open = database.connect().await?;
        let mut id = 0;
        for change in [
            "select 1",
            "alter table notes add column d text default 'new'",
            "alter table notes alter column c type text",
            "alter table notes alter column b type text",
            "alter table notes drop column a",
            "alter table notes rename c to e",
            "alter table notes rename id to ident",
        ] {
            connection.execute(change).await?;
            id += 1;
            let key = if change.ends_with("ident") { "ident" } else { "id" };
            open.execute(AssertSqlSafe(format!(
                "insert into notes ({key}) values ({id}); update notes set b = '{id}' where {key} = {id}"
            )))
            .await?;
        }
        let rows = changes(&mut connection).await?;
        assert_eq!(rows.len(), 14);
        assert_eq!(rows[9]["changed_from"], json!({}), "null before, in a sparse object");
        assert_eq!(rows[12]["table_pk"], json!({}), "a key that is gone is empty, and never half of one");
        open.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn images_are_the_same_whatever_the_session_is_set_to() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host(
            "create table notes (id int primary key, t timestamptz, i interval, f float8, b bytea, d date)",
        )
        .await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        let values = "timestamptz '2026-07-01 12:00Z', interval '1 day 2 hours', float8 '0.1' + 0.2, '\\xab'::bytea, date '2026-07-01')";
        connection.execute(AssertSqlSafe(format!("insert into notes values (1, {values}"))).await?;
        connection
            .execute(
                "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set intervalstyle = 'iso_8601'; set extra_float_digits = -5;
                 set bytea_output = 'escape'",
            )
            .await?;
        connection.execute(AssertSqlSafe(format!("insert into notes values (2, {values}"))).await?;
        let images: Vec<serde_json::Value> =
            sqlx::query_scalar("select data_after - 'id' from audit_changes order by position")
                .fetch_all(&mut connection)
                .await?;
        assert_eq!(images[0], images[1]);
        assert_eq!(images[0]["t"], json!("2026-07-01T12:00:00+00:00"));
    }
    Ok(())
}

/// The settings by which values are rendered.
async fn rendering(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select current_setting(n) from unnest(array['TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output']) n",
    )
    .fetch_all(connection)
    .await?)
}

#[tokio::test]
async fn a_session_keeps_its_own_settings_though_images_are_the_same() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host("create table notes (id int primary key, v int)").await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        connection
            .execute(
                "set timezone = 'Asia/Kathmandu'; set datestyle = 'German, DMY'; set intervalstyle = 'iso_8601';
                 set extra_float_digits = -5; set bytea_output = 'escape'",
            )
            .await?;
        let session = rendering(&mut connection).await?;
        connection.execute("insert into notes values (1, 1), (2, 2)").await?;
        assert_eq!(rendering(&mut connection).await?, session);
        connection
            .execute(
                "begin; set local timezone = 'America/Lima'; update notes set v = v; update notes set v = 3",
            )
            .await?;
        assert_eq!(rendering(&mut connection).await?[0], "America/Lima");
        connection.execute("savepoint s; delete from notes where id = 1").await?;
        assert!(connection.execute("insert into notes values (2, 2)").await.is_err());
        connection.execute("rollback to s").await?;
        assert_eq!(rendering(&mut connection).await?[0], "America/Lima");
        connection.execute("commit").await?;
        assert_eq!(rendering(&mut connection).await?, session);
    }
    Ok(())
}

#[tokio::test]
async fn a_document_that_is_null_in_sql_is_told_from_one_that_is_null_in_json() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) =
            host("create table notes (gone int, id int primary key, a jsonb, b text, c jsonb)").await?;
        connection.execute("alter table notes drop column gone").await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        connection.execute("insert into notes values (1, null, 'x', 'null'), (2, 'null', null, null), (3, '1', null, 'null')").await?;
        let nulls: Vec<Option<Vec<String>>> =
            sqlx::query_scalar("select json_nulls from audit_changes order by position")
                .fetch_all(&mut connection)
                .await?;
        assert_eq!(nulls, [Some(vec!["a".to_owned()]), Some(vec!["c".to_owned()]), None]);
    }
    Ok(())
}

/// The write commits without a trigger, and so it does with one.
#[tokio::test]
async fn a_json_document_that_jsonb_cannot_hold_is_kept_as_text() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table notes (id int primary key, j json)").await?;
    capture(&mut connection, &[("notes", json!({}))]).await?;
    for (n, odd) in [r#""x\u0000y""#, r#""\ud800""#, "1e400000"].iter().enumerate() {
        connection.execute(AssertSqlSafe(format!("insert into notes values ({n}, '{odd}')"))).await?;
        connection.execute(AssertSqlSafe(format!("update notes set j = '1' where id = {n}"))).await?;
    }
    // A column that was renamed is not found: what is said is which one is not stored, and the write is not aborted.
    connection.execute("alter table notes rename j to document").await?;
    connection.execute(r#"insert into notes values (9, '"\u0000"')"#).await?;
    let rows = changes(&mut connection).await?;
    assert_eq!(rows[6]["data_after"], json!({"threadline.unreadable": ["j"]}));
    assert_eq!(rows[0]["data_after"], json!({"id": 0, "j": r#""x\u0000y""#}));
    assert_eq!(rows[5]["changed_from"], json!({"j": "1e400000"}));
    Ok(())
}

#[tokio::test]
async fn tables_that_are_emptied_are_recorded_under_the_table_with_the_leaf() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table a (id int primary key); create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10)",
    )
    .await?;
    capture(&mut connection, &[("a", json!({})), ("p", json!({}))]).await?;
    connection.execute("insert into p values (1); update p set id = 2; insert into p1 values (3); truncate a; truncate p1").await?;
    let rows: Vec<(String, String, Option<String>, serde_json::Value)> =
        sqlx::query_as("select op, table_name, partition, table_pk from audit_changes order by position")
            .fetch_all(&mut connection)
            .await?;
    let leaf = Some("public.p1".to_owned());
    assert_eq!(
        rows,
        [
            ("insert".to_owned(), "p".to_owned(), leaf.clone(), json!({"id": "1"})),
            ("update".to_owned(), "p".to_owned(), leaf.clone(), json!({"id": "2"})),
            ("insert".to_owned(), "p".to_owned(), leaf.clone(), json!({"id": "3"})),
            ("truncate".to_owned(), "a".to_owned(), None, json!({})),
            ("truncate".to_owned(), "p".to_owned(), leaf, json!({})),
        ]
    );
    let before: Option<serde_json::Value> =
        sqlx::query_scalar("select key_before from audit_changes where op = 'update'")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(before, Some(json!({"id": "1"})));
    Ok(())
}
