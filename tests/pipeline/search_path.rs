//! Roles whose search path leads to functions, operators, types and tables of others before those of the system.

use end_to_end::{Pipeline, samples};
use sandbox::{audit::AuditRow, fixture::TestDatabase};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::doctor::doctor;

/// Everything there raises, or is empty.
const HOSTILE: &str = "
    create schema hostile;
    grant usage on schema hostile to public;
    do $do$
    declare
        one text;
    begin
        for one in select unnest(string_to_array(
                'format(text,text);format(text,text,text);format(text,name);format(text,name,name);unnest(uuid[]);unnest(text[]);now();'
                'clock_timestamp();current_setting(text);to_regclass(text);pg_is_in_recovery();pg_current_snapshot();md5(text);'
                'pg_snapshot_xmin(pg_snapshot);pg_visible_in_snapshot(xid8,pg_snapshot);pg_current_xact_id();concat(text,uuid);'
                'has_table_privilege(oid,text);has_schema_privilege(oid,text);jsonb_typeof(jsonb);pg_partition_tree(oid);'
                'split_part(text,text,integer);max(timestamptz);max(bigint);count(uuid);pg_column_size(text);octet_length(text);'
                'length(text);extract(text,timestamptz);date_part(text,timestamptz);pg_get_userbyid(oid);array_agg(text)', ';'))
        loop
            execute 'create function hostile.' || quote_ident(split_part(one, '(', 1)) || '(' || split_part(one, '(', 2)
                    || ' returns text language plpgsql as ''begin raise ''''hijacked: ' || replace(one, ',', ' ') || '''''; end''';
        end loop;
        foreach one in array '{uuid,text,int8,int4,xid8,name,oid,timestamptz}'::text[] loop
            execute format('create function hostile.same_%1$s(pg_catalog.%1$s, pg_catalog.%1$s) returns boolean language plpgsql as
                            ''begin raise ''''hijacked: =''''; end''', one);
            execute format('create operator hostile.= (function = hostile.same_%1$s, leftarg = pg_catalog.%1$s, rightarg = pg_catalog.%1$s)', one);
        end loop;
        execute 'create function hostile.joined(text, uuid) returns text language plpgsql as ''begin raise ''''hijacked: ||''''; end''';
        execute 'create operator hostile.|| (function = hostile.joined, leftarg = text, rightarg = uuid)';
        foreach one in array '{pg_class,pg_namespace,pg_proc,pg_attribute,pg_roles,pg_trigger,pg_settings,audit_actions,entries}'::text[] loop
            execute format('create table hostile.%I (oid oid)', one);
            execute format('grant select on hostile.%I to public', one);
        end loop;
    end
    $do$;
    create domain hostile.uuid as pg_catalog.text;
    create domain hostile.jsonb as pg_catalog.text";

async fn lead_astray(database: &TestDatabase, roles: &[&str]) -> anyhow::Result<()> {
    let mut superuser = database.superuser().await?;
    superuser.execute(HOSTILE).await?;
    for role in roles {
        let lead = format!(
            "do $$ begin execute format('alter role {role} in database %I set search_path = hostile, pg_catalog, public',
                                        current_database()); end $$"
        );
        superuser.execute(AssertSqlSafe(lead)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_search_path_leads_to_is_run_by_no_session_of_the_pipeline() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[consumer.reconcile]\ninterval = \"300ms\"").await?;
    // Somebody's own trigger relies on the path.
    let host = "create table seen (id uuid primary key);
                grant insert on seen to public;
                create function see() returns trigger language plpgsql as $$
                begin insert into seen values (new.id); return null; end $$;
                create trigger see after insert on audit_actions for each row execute function see();
                alter table audit_actions add constraint host check (name <> 'test.refused')";
    pipeline.timeline.superuser().await?.execute(host).await?;
    let source = ["audit_publisher", "audit_consumer", "audit_operator", "audit_decider"];
    lead_astray(&pipeline.source, &source).await?;
    lead_astray(&pipeline.timeline, &["audit_projector", "audit_reconciler"]).await?;

    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (mut rows, ids) = samples(20);
    rows.push(AuditRow::sample("test.refused"));
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    assert_eq!(pipeline.failures().await?.len(), 1);
    pipeline.timeline.superuser().await?.execute("alter table audit_actions drop constraint host").await?;
    for (binary, arguments) in [
        ("publisher", &["status"][..]),
        ("consumer", &["status"]),
        ("consumer", &["failures", "list"]),
        ("consumer", &["failures", "redrive", "--all"]),
        ("consumer", &["reconcile"]),
        ("consumer", &["reconcile", "--repair"]),
        ("consumer", &["explain", &ids[0].to_string()]),
        ("consumer", &["receipts", "verify"]),
        ("publisher", &["backfill"]),
        ("publisher", &["prune"]),
    ] {
        let (done, said) = pipeline.command(binary, arguments)?;
        assert!(done && !said.contains("hijacked"), "{binary} {arguments:?}: {said}");
    }
    let (more, ids) = samples(20);
    pipeline.commit(&more).await?;
    pipeline.arrive(&ids).await?;
    pipeline.arrive(&[rows[20].id]).await?;
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_search_path_leads_to_is_run_by_no_command_of_the_owner() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let owner = sandbox::rights::OWNER;
    lead_astray(&pipeline.source, &[owner]).await?;
    lead_astray(&pipeline.timeline, &[owner]).await?;
    for (binary, arguments) in [
        ("publisher", &["detach"][..]),
        ("publisher", &["attach"]),
        ("threadline", &["install"]),
        ("consumer", &["rebuild"]),
    ] {
        let (done, said) = pipeline.command(binary, arguments)?;
        assert!(!said.contains("hijacked"), "{binary} {arguments:?}: {said}");
        assert!(done || arguments[0] == "rebuild", "{binary} {arguments:?}: {said}");
    }
    for binary in ["publisher", "consumer"] {
        let answer = doctor(&pipeline, binary, &[])?;
        assert!(answer.sound && !answer.json.to_string().contains("hijacked"), "{}", answer.json);
        answer.misses(&["check-failed"]);
    }
    Ok(())
}
