//! What keeps the timeline's tables as they are, and capture on.

use sqlx::PgConnection;

use crate::{
    capture::names::quote,
    catalog,
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
    schema::JOURNAL_TRIGGER,
};

/// What is recorded, and what says how.
const RECORDS: [&str; 8] = [
    "audit_actions",
    "audit_adoptions",
    "audit_changes",
    "audit_receipts",
    "audit_transactions",
    "threadline_capture_policies",
    "threadline_erasures",
    "threadline_evidence_records",
];

/// Roles of deploy/postgres/timeline.sql that change what is recorded, and where: by repairs, by retention and by erasure.
const KNOWN: [(&str, &[&str]); 4] = [
    ("audit_reconciler", &["audit_actions"]),
    ("audit_maintainer", &["audit_actions", "audit_changes", "audit_transactions"]),
    ("audit_archivist", &["audit_actions", "audit_changes", "audit_transactions"]),
    (
        "audit_eraser",
        &[
            "audit_actions",
            "audit_changes",
            "audit_transactions",
            "threadline_erasures",
            "threadline_evidence_records",
        ],
    ),
];

pub(super) async fn own_triggers(
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<Outcome, sqlx::Error> {
    let made: Vec<catalog::Property> =
        catalog::made().into_iter().filter(|one| one.kind == "trigger").collect();
    let (tables, names): (Vec<&str>, Vec<&str>) =
        made.iter().map(|one| (one.object.as_str(), one.name.as_str())).unzip();
    let found: Vec<(String, String, bool)> = sqlx::query_as(
        "select format('%I.%I', n.nspname, c.relname), format('%I', t.tgname), t.tgenabled in ('O', 'A')
         from unnest($2::text[], $3::text[]) w (relation, name)
         join pg_catalog.pg_namespace n on n.nspname = $1
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.relation
         join pg_catalog.pg_trigger t on t.tgrelid = c.oid and t.tgname = w.name
         order by 1, 2",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(&tables)
    .bind(&names)
    .fetch_all(connection)
    .await?;
    let (mut lines, mut steps) = (Vec::new(), Vec::new());
    for (table, trigger, _) in found.iter().filter(|(.., fires)| !fires) {
        lines.push(format!("{trigger} on {table}"));
        steps.push(Remedy::sql(format!("alter table {table} enable trigger {trigger}")));
    }
    if found.len() < made.len() {
        steps.push(Remedy::command("threadline install"));
        lines.push(format!("{} not there", made.len() - found.len()));
    }
    if lines.is_empty() {
        return Ok(Outcome::ok(format!("{} triggers", found.len())));
    }
    Ok(Outcome::failed(format!("do not fire: {}", listed(lines))).remedy(steps))
}

pub(super) async fn other_triggers(
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<Outcome, sqlx::Error> {
    let mut ours: Vec<String> =
        catalog::made().into_iter().filter(|one| one.kind == "trigger").map(|one| one.name).collect();
    ours.push(JOURNAL_TRIGGER.to_owned());
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "with tables as (
             select c.oid, format('%I.%I', n.nspname, c.relname) as name
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = any ($2))
         select 'trigger', format('%I', t.tgname), r.name
         from tables r join pg_catalog.pg_trigger t on t.tgrelid = r.oid
         where not t.tgisinternal and t.tgname <> all ($3)
         union all
         select 'rule', format('%I', w.rulename), r.name
         from tables r join pg_catalog.pg_rewrite w on w.ev_class = r.oid
         order by 3, 1, 2",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(facts.with_months(&RECORDS))
    .bind(ours)
    .fetch_all(connection)
    .await?;
    if found.is_empty() {
        return Ok(Outcome::ok("no others"));
    }
    let seen = listed(found.iter().map(|(kind, name, table)| format!("{kind} {name} on {table}")));
    let steps = found.iter().map(|(kind, name, table)| Remedy::sql(format!("drop {kind} {name} on {table}")));
    Ok(Outcome::attention(format!("{} act on what is recorded: {seen}", found.len())).remedy(steps))
}

pub(super) async fn replica_role(connection: &mut PgConnection, _: &Facts) -> Result<Outcome, sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select w.who, split_part(c.setting, '=', 2)
         from pg_catalog.pg_db_role_setting s
         cross join lateral unnest(s.setconfig) c (setting)
         left join pg_catalog.pg_roles r on r.oid = s.setrole
         left join pg_catalog.pg_database d on d.oid = s.setdatabase
         cross join lateral (select case when s.setrole = 0 and s.setdatabase = 0 then 'role all'
                                         when s.setrole = 0 then format('database %I', d.datname)
                                         when s.setdatabase = 0 then format('role %I', r.rolname)
                                         else format('role %I in database %I', r.rolname, d.datname) end as who) w
         where (s.setdatabase = 0 or d.datname = current_database())
           and split_part(c.setting, '=', 1) = 'session_replication_role' and split_part(c.setting, '=', 2) = 'replica'
         union all
         select 'system', setting from pg_catalog.pg_settings
         where name = 'session_replication_role' and setting = 'replica' and source in ('configuration file', 'command line')
         order by 1",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    if found.is_empty() {
        return Ok(Outcome::ok("none"));
    }
    let seen = listed(found.iter().map(|(who, setting)| format!("{setting} for {who}")));
    let mut steps: Vec<Remedy> = found
        .iter()
        .map(|(who, _)| Remedy::sql(format!("alter {who} reset session_replication_role")))
        .collect();
    if found.iter().any(|(who, _)| who == "system") {
        steps.push(Remedy::sql("select pg_reload_conf()"));
    }
    Ok(Outcome::failed(format!("triggers are skipped: {seen}")).remedy(steps))
}

pub(super) async fn row_security(
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<Outcome, sqlx::Error> {
    let found: Vec<(String, bool)> = sqlx::query_as(
        "select format('%I.%I', n.nspname, c.relname), c.relforcerowsecurity
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = any ($2) and c.relrowsecurity order by 1",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(facts.with_months(&RECORDS))
    .fetch_all(connection)
    .await?;
    let forced: Vec<&String> =
        found.iter().filter(|(_, is_forced)| *is_forced).map(|(table, _)| table).collect();
    if forced.is_empty() {
        return Ok(Outcome::ok(format!(
            "{} tables have row security, which their owner passes",
            found.len()
        )));
    }
    let steps =
        forced.iter().map(|table| Remedy::sql(format!("alter table {table} no force row level security")));
    Ok(Outcome::failed(format!("forced on {}", listed(&forced))).remedy(steps))
}

pub(super) async fn owner(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let (owner, functions, others): (String, Vec<String>, Vec<String>) = sqlx::query_as(
        "select quote_ident(r.rolname),
                array(select format('%I.%I(%s)', $1, p.proname, pg_get_function_identity_arguments(p.oid))
                      from pg_catalog.pg_proc p
                      where p.pronamespace = c.relnamespace and p.proname like 'threadline\\_%' and p.proowner <> c.relowner
                      order by 1),
                array(select quote_ident(m.rolname) from pg_catalog.pg_roles m
                      where not m.rolsuper and m.oid <> c.relowner and pg_has_role(m.oid, c.relowner, 'member') order by 1)
         from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         join pg_catalog.pg_roles r on r.oid = c.relowner
         where n.nspname = $1 and c.relname = 'audit_changes'",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .fetch_one(connection)
    .await?;
    let mut steps: Vec<Remedy> = functions
        .iter()
        .map(|function| Remedy::sql(format!("alter function {function} owner to {owner}")))
        .collect();
    steps.extend(others.iter().map(|role| Remedy::sql(format!("revoke {owner} from {role}"))));
    let members = if others.is_empty() {
        format!("only {owner} may replace them")
    } else {
        format!("these may replace them as {owner}: {}", listed(&others))
    };
    Ok(if !functions.is_empty() {
        let seen =
            format!("{} functions are not {owner}'s: {}; {members}", functions.len(), listed(&functions));
        Outcome::failed(seen).remedy(steps)
    } else if !others.is_empty() {
        Outcome::attention(format!("all functions are {owner}'s; {members}")).remedy(steps)
    } else {
        Outcome::ok(format!("all functions are {owner}'s; {members}"))
    })
}

pub(super) async fn rights(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let (roles, tables): (Vec<&str>, Vec<&str>) =
        KNOWN.iter().flat_map(|(role, tables)| tables.iter().map(move |table| (*role, *table))).unzip();
    let granted: Vec<(String, String, String)> = sqlx::query_as(
        "with granted as (
             select c.relname, c.relowner, a.grantee, lower(a.privilege_type) as privilege
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             cross join lateral aclexplode(c.relacl) a
             where n.nspname = $1 and c.relname = any ($2)
             union
             select c.relname, c.relowner, x.grantee, lower(x.privilege_type)
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             join pg_catalog.pg_attribute a on a.attrelid = c.oid and not a.attisdropped
             cross join lateral aclexplode(a.attacl) x
             where n.nspname = $1 and c.relname = any ($2))
         select g.relname::text, coalesce(quote_ident(r.rolname), 'public'), string_agg(g.privilege, ', ' order by g.privilege)
         from granted g left join pg_catalog.pg_roles r on r.oid = g.grantee
         where g.privilege in ('update', 'delete', 'truncate', 'trigger') and g.grantee <> g.relowner
           and not exists (select from unnest($3::text[], $4::text[]) k (role, relation)
                           where k.role = r.rolname and k.relation = g.relname and g.privilege in ('update', 'delete'))
         group by 1, 2 order by 1, 2",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(facts.with_months(&RECORDS))
    .bind(roles)
    .bind(tables)
    .fetch_all(connection)
    .await?;
    if granted.is_empty() {
        return Ok(Outcome::ok("granted to nobody else"));
    }
    let seen =
        listed(granted.iter().map(|(table, role, privileges)| format!("{privileges} on {table} to {role}")));
    let schema = quote(facts.storage.as_str());
    let steps = granted.iter().map(|(table, role, privileges)| {
        Remedy::sql(format!("revoke {privileges} on {schema}.{} from {role}", quote(table)))
    });
    Ok(Outcome::failed(format!("granted: {seen}")).remedy(steps))
}
