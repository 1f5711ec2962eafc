//! What is hidden of captured rows.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    check::{Outcome, checks, listed},
    facts::Facts,
    remedy::Remedy,
    secrets::looks_secret,
};
use crate::{
    capture::{HostTable, Policy, deployed::command, names::quote},
    coverage::{PolicyStatus, policy_status::Status},
};

checks! {
    "redaction.drift" drift, "What is deployed hides what the settings say.";
    "redaction.introspection" introspection, "It can be told of every captured table what is hidden.";
    "redaction.secrets" secrets, "No captured column whose name looks like that of a secret is recorded in clear.";
    "redaction.hash_keys" hash_keys, "Nobody but their owner may read the keys of hashed columns.";
}

async fn drift(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("redaction.drift"))
}

async fn introspection(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let statuses = match &facts.policies {
        Ok(statuses) if statuses.is_empty() => return Ok(Outcome::not_applicable("no table is captured")),
        Ok(statuses) => statuses,
        Err(why) => return Ok(Outcome::unknown(why)),
    };
    let dark: Vec<&PolicyStatus> =
        statuses.iter().filter(|one| one.status == Status::CouldNotIntrospect).collect();
    if dark.is_empty() {
        return Ok(Outcome::ok(format!("{} tables", statuses.len())));
    }
    let lines =
        dark.iter().map(|one| format!("{}: {}", one.table, one.warning.as_deref().unwrap_or_default()));
    let steps: Vec<Remedy> = dark.iter().filter_map(|one| one.hint.as_deref()).map(Remedy::of_step).collect();
    Ok(Outcome::attention(format!("{} of {} tables: {}", dark.len(), statuses.len(), listed(lines)))
        .remedy(steps))
}

/// A captured column that may hold a secret.
#[derive(sqlx::FromRow)]
struct Column {
    n: i64,
    name: String,
    is_key: bool,
}

async fn secrets(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let statuses = match &facts.policies {
        Ok(statuses) => statuses,
        Err(why) => return Ok(Outcome::unknown(why)),
    };
    let captured: Vec<(&HostTable, &Policy)> =
        statuses.iter().filter_map(|one| Some((&one.table, one.deployed.as_ref()?))).collect();
    if captured.is_empty() {
        return Ok(Outcome::not_applicable("no table is captured under a policy that is known"));
    }
    // Of a type that holds a secret: flags and times are about one.
    let columns: Vec<Column> = sqlx::query_as(
        "select w.n, a.attname::text as name,
                exists (select from pg_catalog.pg_index i
                        where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey)) as is_key
         from unnest($1::text[], $2::text[]) with ordinality w (schema, relation, n)
         join pg_catalog.pg_namespace n on n.nspname = w.schema
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.relation
         join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         join pg_catalog.pg_type t on t.oid = a.atttypid
         where t.typcategory not in ('B', 'D', 'T')
         order by w.n, a.attnum",
    )
    .persistent(false)
    .bind(captured.iter().map(|(table, _)| table.schema.as_str()).collect::<Vec<_>>())
    .bind(captured.iter().map(|(table, _)| table.name.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let (mut lines, mut steps) = (Vec::new(), Vec::new());
    for (n, (table, policy)) in (1_i64..).zip(&captured) {
        let hidden = policy.redacted();
        let in_clear =
            |column: &&Column| column.n == n && looks_secret(&column.name) && !hidden.contains(&column.name);
        let (keys, plain): (Vec<&Column>, Vec<&Column>) =
            columns.iter().filter(in_clear).partition(|one| one.is_key);
        lines.extend(keys.iter().chain(&plain).map(|column| format!("{table}.{}", quote(&column.name))));
        if !plain.is_empty() {
            let mut policy = (*policy).clone();
            policy.mask.extend(plain.iter().map(|column| column.name.clone()));
            steps.push(section(table, &policy));
            steps.push(match command(table, "", None) {
                Some(command) => Remedy::command(format!("{command} --apply")),
                None => Remedy::advice("generate its triggers again"),
            });
        }
        if !keys.is_empty() {
            steps.push(Remedy::advice(format!(
                "a key cannot be hidden: give {table} another primary key, or capture it no more"
            )));
        }
    }
    if lines.is_empty() {
        return Ok(Outcome::ok(format!("none of {} tables", captured.len())));
    }
    Ok(Outcome::attention(format!("{} columns: {}", lines.len(), listed(lines))).remedy(steps))
}

/// The section of the settings that says this policy, without what goes without saying.
fn section(table: &HostTable, policy: &Policy) -> Remedy {
    let default = Policy::default();
    let paths = |policy: &Policy| -> Vec<String> { policy.paths.iter().map(|path| path.join(".")).collect() };
    let options: [(&str, Value, Value); 10] = [
        ("exclude", json!(policy.exclude), json!(default.exclude)),
        ("mask", json!(policy.mask), json!(default.mask)),
        ("mask_placeholder", json!(policy.mask_placeholder), json!(default.mask_placeholder)),
        ("hash", json!(policy.hash), json!(default.hash)),
        ("hash_key", json!(policy.hash_key), json!(default.hash_key)),
        ("paths", json!(paths(policy)), json!(paths(&default))),
        ("except", json!(policy.except), json!(default.except)),
        ("primary_key", json!(policy.primary_key), json!(default.primary_key)),
        ("store_changed_from", json!(policy.store_changed_from), json!(default.store_changed_from)),
        ("strict", json!(policy.strict), json!(default.strict)),
    ];
    let level = policy.level.map(|level| ("level", json!(level)));
    let said = options
        .into_iter()
        .filter(|(_, value, default)| value != default)
        .map(|(option, value, _)| (option, value));
    let lines: Vec<String> =
        level.into_iter().chain(said).map(|(option, value)| format!("{option} = {value}")).collect();
    Remedy::setting(&format!("[capture.tables.{}]", json!(table.to_string())), &lines)
}

async fn hash_keys(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has("threadline_hash_keys") {
        return Ok(Outcome::not_applicable("there is no table of keys"));
    }
    let granted: Vec<String> = sqlx::query_scalar(
        "select distinct coalesce(quote_ident(r.rolname), 'public')
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         cross join lateral (select x.grantee from aclexplode(c.relacl) x
                             union select y.grantee from pg_catalog.pg_attribute a, aclexplode(a.attacl) y where a.attrelid = c.oid) g
         left join pg_catalog.pg_roles r on r.oid = g.grantee
         where n.nspname = $1 and c.relname = 'threadline_hash_keys' and g.grantee <> c.relowner order by 1",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .fetch_all(connection)
    .await?;
    if granted.is_empty() {
        return Ok(Outcome::ok("granted to nobody else"));
    }
    let table = facts.table("threadline_hash_keys");
    let steps = granted.iter().map(|role| Remedy::sql(format!("revoke all on {table} from {role}")));
    Ok(Outcome::failed(format!("granted to {}", listed(&granted))).remedy(steps))
}
