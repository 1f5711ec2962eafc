//! What the migrations make, in full, compared with what is there: columns, constraints, triggers and the like of the outbox's own
//! tables, which may have been altered by hand. What is missing as a whole is reported by [`objects`](super::objects).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::FromRow;

use crate::{identifier::quote, session::Session};

/// What a database has after all migrations, a line for each property; `common/tests/outbox/catalog.rs` holds it to that.
const MADE: &str = include_str!("catalog.txt");

/// A property of a table or a function of the schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Property {
    /// Which kind, such as `column`.
    pub kind: String,
    /// Of which table or function.
    pub object: String,
    /// Its own name; empty where the object has one only.
    pub name: String,
    /// What it is, as in SQL.
    pub definition: String,
}

/// Something that is not as the migrations make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In a sentence.
    pub what: String,
    /// The statement or the command that undoes it.
    pub remedy: String,
    /// The function that is another one; `None` for a difference of a table, which no command undoes.
    pub function: Option<String>,
}

/// All properties of what is in the schema, in order. The same on every version of PostgreSQL.
///
/// # Errors
/// When the server is away.
pub async fn properties(connection: &mut Session) -> Result<Vec<Property>, sqlx::Error> {
    let mut found: Vec<Property> = sqlx::query_as(
        "with tables as (
             select c.oid, c.relname::text as object, c.relpersistence, c.relrowsecurity
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'outbox' and c.relkind in ('r', 'p') and c.relname <> 'migrations'),
         columns as (
             select t.object, a.*, pg_get_expr(d.adbin, d.adrelid) as expression
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
             left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum)
         select 'table' as kind, object, '' as name,
                case relpersistence when 'p' then 'logged' else 'unlogged' end as definition from tables
         union all
         select 'row security', object, '', 'enabled' from tables where relrowsecurity
         union all
         select 'column', object, attname::text, format_type(atttypid, atttypmod) from columns
         union all
         select 'not null', object, attname::text, 'not null' from columns where attnotnull
         union all
         select 'default', object, attname::text, expression from columns where expression is not null and attgenerated = ''
         union all
         select 'generated', object, attname::text, expression from columns where attgenerated <> ''
         union all
         select 'identity', object, attname::text, case attidentity when 'a' then 'always' else 'by default' end
         from columns where attidentity <> ''
         union all
         -- From PostgreSQL 18 on `not null` is one of these.
         select 'constraint', t.object, c.conname::text, pg_get_constraintdef(c.oid)
         from tables t join pg_constraint c on c.conrelid = t.oid where c.contype <> 'n'
         union all
         select case when i.indisunique or i.indexprs is not null or i.indpred is not null then 'index' else 'plain index' end,
                t.object, x.relname::text, pg_get_indexdef(i.indexrelid)
         from tables t join pg_index i on i.indrelid = t.oid join pg_class x on x.oid = i.indexrelid
         where not exists (select from pg_constraint c where c.conindid = i.indexrelid)
         union all
         select 'trigger', t.object, g.tgname::text, pg_get_triggerdef(g.oid)
         from tables t join pg_trigger g on g.tgrelid = t.oid where not g.tgisinternal
         union all
         select 'rule', t.object, r.rulename::text, pg_get_ruledef(r.oid) from tables t join pg_rewrite r on r.ev_class = t.oid
         union all
         select 'sequence', t.object, s.relname::text,
                format('increment %s minvalue %s maxvalue %s cache %s %s', q.seqincrement, q.seqmin, q.seqmax, q.seqcache,
                       case when q.seqcycle then 'cycle' else 'no cycle' end)
         from tables t
         join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.classid = 'pg_class'::regclass
                         and d.deptype = 'i'
         join pg_class s on s.oid = d.objid and s.relkind = 'S'
         join pg_sequence q on q.seqrelid = s.oid
         union all
         select 'function', format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)), '',
                format('%s, %s, %s, settings %s, body %s', l.lanname,
                       case when p.prosecdef then 'security definer' else 'security invoker' end,
                       case p.provolatile when 'v' then 'volatile' when 's' then 'stable' else 'immutable' end,
                       coalesce((select string_agg(s.one, '; ' order by s.one) from unnest(p.proconfig) s (one)), 'none'),
                       md5(p.prosrc))
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
         where n.nspname = 'outbox'",
    )
    .fetch_all(connection)
    .await?;
    found.sort();
    Ok(found)
}

/// What is not as the migrations make it, of what is there.
///
/// # Errors
/// When the server is away.
pub async fn differences(connection: &mut Session) -> Result<Vec<Difference>, sqlx::Error> {
    Ok(compare(&made(), &properties(connection).await?))
}

/// One line for each property.
#[must_use]
pub fn text(properties: &[Property]) -> String {
    let line = |Property { kind, object, name, definition }: &Property| {
        format!("{kind} | {object} | {name} | {definition}\n")
    };
    properties.iter().map(line).collect()
}

fn made() -> Vec<Property> {
    let property = |line: &str| {
        let mut parts = line.splitn(4, " | ").map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Property { kind: part(), object: part(), name: part(), definition: part() }
    };
    MADE.lines().map(property).collect()
}

fn compare(made: &[Property], found: &[Property]) -> Vec<Difference> {
    let objects = |all: &[Property]| -> BTreeSet<String> {
        all.iter()
            .filter(|one| matches!(one.kind.as_str(), "table" | "function"))
            .map(|one| one.object.clone())
            .collect()
    };
    // What is missing or extra as a whole is none of its properties' fault.
    let both: BTreeSet<String> = objects(made).intersection(&objects(found)).cloned().collect();
    let columns = |all: &[Property]| -> BTreeSet<(String, String)> {
        let columns = all.iter().filter(|one| one.kind == "column");
        columns.map(|one| (one.object.clone(), one.name.clone())).collect()
    };
    let (made_columns, found_columns) = (columns(made), columns(found));
    let is_of_one_side = |one: &Property| {
        let column = (one.object.clone(), one.name.clone());
        matches!(one.kind.as_str(), "not null" | "default" | "generated" | "identity")
            && !(made_columns.contains(&column) && found_columns.contains(&column))
    };
    let by_name = |all: &[Property]| -> BTreeMap<(String, String, String), String> {
        all.iter()
            .filter(|one| both.contains(&one.object) && !is_of_one_side(one))
            .map(|one| ((one.object.clone(), one.kind.clone(), one.name.clone()), one.definition.clone()))
            .collect()
    };
    let (made, found) = (by_name(made), by_name(found));
    let mut differences = Vec::new();
    for (key @ (object, kind, name), definition) in &made {
        match found.get(key) {
            Some(other) if other == definition => {}
            other => {
                differences.push(difference(object, kind, name, Some(definition), other.map(String::as_str)));
            }
        }
    }
    for ((object, kind, name), definition) in found.iter().filter(|(key, _)| !made.contains_key(*key)) {
        // It costs something, and nothing goes wrong.
        if kind != "plain index" {
            differences.push(difference(object, kind, name, None, Some(definition)));
        }
    }
    differences
}

fn difference(object: &str, kind: &str, name: &str, made: Option<&str>, found: Option<&str>) -> Difference {
    let table = format!("outbox.{object}");
    let alter = format!("alter table {table}");
    let name = quote(name);
    let wanted = made.unwrap_or_default();
    let function = (kind == "function").then(|| object.split('(').next().unwrap_or_default().to_owned());
    let what = match (kind, made, found) {
        ("function", ..) => format!("the function {table} is another one than `publisher attach` made"),
        ("table", _, Some(is)) => format!("{table} is {is}"),
        ("row security", ..) => format!("row-level security of {table} is enabled"),
        (_, None, Some(is)) => format!("{table} has a {kind} {name} that no migration made ({is})"),
        (_, Some(was), None) => format!("{table} lacks its {kind} {name} ({was})"),
        (_, Some(was), Some(is)) => format!("{kind} {name} of {table} is {is}, and was made as {was}"),
        (_, None, None) => String::new(),
    };
    let remedy = match (kind, made.is_some(), found.is_some()) {
        ("function", ..) => "run `publisher attach`, which recreates it".to_owned(),
        ("table", ..) => format!("{alter} set {wanted}"),
        ("row security", ..) => format!("{alter} disable row level security"),
        ("column", true, false) => format!("{alter} add column {name} {wanted}"),
        ("column", true, true) => {
            format!("{alter} alter column {name} type {wanted} using {name}::text::{wanted}")
        }
        ("column", false, _) => format!("{alter} drop column {name}"),
        ("not null", is_made, _) => {
            format!("{alter} alter column {name} {} not null", if is_made { "set" } else { "drop" })
        }
        ("default", true, _) => format!("{alter} alter column {name} set default {wanted}"),
        ("default", false, _) => format!("{alter} alter column {name} drop default"),
        ("generated", ..) => format!("{alter} alter column {name} drop expression"),
        ("identity", true, true) => format!("{alter} alter column {name} set generated {wanted}"),
        ("identity", true, false) => {
            format!("{alter} alter column {name} add generated {wanted} as identity")
        }
        ("identity", false, _) => format!("{alter} alter column {name} drop identity"),
        ("constraint", true, true) => {
            format!("{alter} drop constraint {name}, add constraint {name} {wanted}")
        }
        ("constraint", true, false) => format!("{alter} add constraint {name} {wanted}"),
        ("constraint", false, _) => format!("{alter} drop constraint {name}"),
        ("index" | "plain index", true, true) => format!("drop index outbox.{name}; {wanted}"),
        ("index" | "plain index", true, false) => wanted.to_owned(),
        ("index" | "plain index", false, _) => format!("drop index outbox.{name}"),
        ("sequence", ..) => format!("alter sequence outbox.{name} {wanted}"),
        (other, ..) => format!("drop {other} {name} on {table}"),
    };
    let remedy = if function.is_some() { remedy } else { format!("run as its owner: {remedy}") };
    Difference { what, remedy, function }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(line: &str) -> Property {
        let parts: Vec<&str> = line.split(" | ").collect();
        let [kind, object, name, definition] = parts[..] else { panic!("{line}") };
        Property {
            kind: kind.to_owned(),
            object: object.to_owned(),
            name: name.to_owned(),
            definition: definition.to_owned(),
        }
    }

    #[test]
    fn nothing_differs_from_itself_and_what_is_missing_as_a_whole_is_no_difference() {
        let made = made();
        assert!(made.len() > 100, "{}", made.len());
        assert_eq!(compare(&made, &made), []);
        let without: Vec<Property> =
            made.iter().filter(|one| one.object != "acts" && one.object != "capture()").cloned().collect();
        assert_eq!(compare(&made, &without), []);
    }

    #[test]
    fn each_difference_is_named_with_the_statement_that_undoes_it() {
        let table = [
            ("table | entries |  | unlogged", "set logged"),
            ("row security | entries |  | enabled", "disable row level security"),
            ("column | entries | more | text", "drop column \"more\""),
            ("column | entries | seq | text", "alter column \"seq\" type bigint using"),
            ("not null | entries | forwarder | not null", "alter column \"forwarder\" drop not null"),
            ("default | entries | xid | now()", "set default pg_current_xact_id()"),
            ("constraint | entries | c | CHECK (false)", "drop constraint \"c\""),
            ("index | entries | i | CREATE UNIQUE INDEX", "drop index outbox.\"i\""),
            ("trigger | entries | t | CREATE TRIGGER", "drop trigger \"t\" on outbox.entries"),
            ("rule | entries | r | CREATE RULE", "drop rule \"r\" on outbox.entries"),
            (
                "sequence | entries | entries_seq_seq | cycle",
                "alter sequence outbox.\"entries_seq_seq\" increment 1",
            ),
            ("function | capture() |  | sql", "run `publisher attach`"),
        ];
        for (line, remedy) in table {
            let other = property(line);
            let mut found = made();
            found.retain(|one| {
                (&one.kind, &one.object, &one.name) != (&other.kind, &other.object, &other.name)
            });
            found.push(other);
            let differences = compare(&made(), &found);
            assert_eq!(differences.len(), 1, "{line}: {differences:?}");
            assert!(differences[0].remedy.contains(remedy), "{line}: {differences:?}");
        }
        let found: Vec<Property> = made().into_iter().filter(|one| one.name != "occurred_at").collect();
        let differences = compare(&made(), &found);
        assert_eq!(
            differences[0].remedy,
            "run as its owner: alter table outbox.entries add column \"occurred_at\" timestamp with time zone"
        );
        let mut found = made();
        found.push(property("plain index | entries | i | CREATE INDEX"));
        assert_eq!(compare(&made(), &found), []);
    }
}
