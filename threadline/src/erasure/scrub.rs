//! The statement that erases values of rows that are visited, and keeps the hash of what stood there.

use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    counts::Counts,
    left::pseudonym,
    named::{Named, push_holds, push_is_filter},
    step::{Of, Place, Side, Step},
};
use crate::{
    ActorRef,
    continuity::CAPTURE_DISABLED,
    query::{Reader, Statement},
};

/// What is erased of rows.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Of changes: columns of the host's, all but those of the key where none are named; and the key.
    Columns { columns: Option<Vec<String>>, key_too: bool },
    /// Who; and texts.
    Actor { texts: bool },
    /// The comment of an action.
    Comment,
}

/// Columns of changes that hold a row.
const IMAGES: [&str; 3] = ["data_after", "data_before", "changed_from"];
/// And those that hold its key.
const KEYS: [&str; 2] = ["table_pk", "key_before"];

/// Actions whose texts are the record of something else than what somebody did: capture is switched on again by one of them.
const KEPT: [&str; 3] = [CAPTURE_DISABLED, "audit.purged", "audit.erased"];

/// A key that was replaced.
const IS_PSEUDONYM: &str =
    "f.value #>> '{}' ~ '^erased-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'";

/// What a part of a step has visited and erased.
#[derive(Debug)]
pub(super) struct Visited {
    pub(super) rows: u64,
    /// Where the next part begins.
    pub(super) last: Option<Place>,
    pub(super) erased: Counts,
}

/// How much one statement does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'p> {
    pub(super) run: Uuid,
    pub(super) after: Option<&'p Place>,
    /// When the pass began: what has come since is for the next one, or somebody who writes all the time would keep this one on.
    pub(super) begun: &'p str,
    pub(super) limit: i64,
    /// Otherwise it counts.
    pub(super) writes: bool,
}

impl Step {
    /// Visits the next rows behind a place, and erases of those that are due.
    pub(super) fn statement(&self, reader: &Reader, part: Part<'_>) -> Statement {
        if let Of::Side { side, named } = &self.of {
            return self.side_statement(reader, part, (side, named));
        }
        let table = reader.schema().table(self.table());
        let mut statement = Statement::new("with seen as materialized (");
        self.push_seen(reader, part, &mut statement);
        statement.push(&format!(
            "), due as materialized (select c.* from {table} c where c.id = any (array(select s.id from seen s))"
        ));
        self.push_due(&mut statement);
        statement.push(if part.writes { " for update of c" } else { "" });
        let place = if self.table() == "audit_changes" {
            "d.table_schema || '.' || d.table_name".to_owned()
        } else {
            format!("'{}'", self.table())
        };
        statement.push(&format!(
            "), scrubbed as materialized (
                 select d.id, {place} as place, v.name, v.old, v.new, v.keys, d.erased #>> array['columns', v.name, 'sha256'] as kept,
                        d.erased #> array['columns', v.name, 'keys'] as before
                 from due d cross join lateral ("
        ));
        self.what.push_parts(self.table(), part.run, &mut statement);
        statement.push(") v)");
        if part.writes {
            push_update(&table, &self.what.columns(self.table()), part.run, &mut statement);
        }
        statement.push(
            " select (select count(*) from seen), l.at, l.id, (select count(distinct s.id) from scrubbed s), g.places, g.names, g.counts
             from (select) one
             cross join lateral (
                 select coalesce(array_agg(n.place), '{}') as places, coalesce(array_agg(n.name), '{}') as names,
                        coalesce(array_agg(n.count), '{}') as counts
                 from (select s.place, k.name, count(*) as count
                       from scrubbed s cross join lateral (
                           select jsonb_array_elements_text(s.keys) union all select s.name where s.keys is null) k (name)
                       group by 1, 2) n) g",
        );
        push_last(&mut statement);
        statement
    }

    /// Of a table without a column `erased`, whose rows no receipt covers.
    fn side_statement(&self, reader: &Reader, part: Part<'_>, (side, named): (&Side, &Named)) -> Statement {
        let table = reader.schema().table(side.table);
        let pairs = named.pairs(part.run);
        let members = named.members();
        let befores: Vec<String> = pairs.iter().map(|(before, _)| before.clone()).collect();
        let mut statement = Statement::new("with seen as materialized (");
        self.push_seen(reader, part, &mut statement);
        statement.push("), due as materialized (select c.id, ");
        push_is_actor(named.actor(), &mut statement);
        statement.push(&format!(
            " as is_actor from {table} c where c.id = any (array(select s.id from seen s)) and ("
        ));
        push_is_actor(named.actor(), &mut statement);
        for document in side.documents {
            statement.push(" or ");
            push_holds(&format!("c.{document}::text"), &befores, &mut statement);
            if let Some(members) = &members {
                statement.push(" or ");
                push_is_filter(&format!("c.{document}"), members, &mut statement);
            }
        }
        statement.push(if part.writes { ") for update of c)" } else { "))" });
        if part.writes {
            statement.push(&format!(", updated as (update {table} c set "));
            let mut columns = 0;
            if let Some(actor) = named.actor() {
                statement.push("actor_ref = case when d.is_actor then jsonb_build_object('type', ");
                statement.bind(actor.kind().as_str()).push("::text, 'id', ").bind(pseudonym(part.run));
                statement.push("::text) else c.actor_ref end");
                columns += 1;
            }
            for document in side.documents {
                statement.push(if columns == 0 { "" } else { ", " });
                statement.push(&format!("{document} = {}", "replace(".repeat(pairs.len())));
                if let Some(members) = &members {
                    statement.push("(case when ");
                    push_is_filter(&format!("c.{document}"), members, &mut statement);
                    statement.push(&format!(" then jsonb_set(c.{document}, '{{key}}', to_jsonb("));
                    statement
                        .bind(pseudonym(part.run))
                        .push(&format!("::text)) else c.{document} end)::text"));
                } else {
                    statement.push(&format!("c.{document}::text"));
                }
                for (before, after) in &pairs {
                    statement.push(", ").bind(before).push("::text, ").bind(after).push("::text)");
                }
                statement.push("::jsonb");
                columns += 1;
            }
            statement.push(" from due d where c.id = d.id)");
        }
        let label = named.label();
        statement.push(&format!(
            " select (select count(*) from seen), l.at, l.id, g.count, array_remove(array[case when g.count > 0 then '{}' end], null),
                     array_remove(array[case when g.count > 0 then '{label}' end], null), array_remove(array[nullif(g.count, 0)], null)
              from (select) one cross join lateral (select count(*) as count from due) g",
            side.table
        ));
        push_last(&mut statement);
        statement
    }

    /// Of a row of [`Self::statement`].
    pub(super) fn visited(&self, row: &PgRow) -> Result<Visited, sqlx::Error> {
        let unsigned = |count: i64| u64::try_from(count).unwrap_or_default();
        let (at, id): (Option<String>, Option<Uuid>) = (row.try_get(1)?, row.try_get(2)?);
        let mut erased = Counts::default();
        erased.add_rows(self.table(), unsigned(row.try_get(3)?));
        let (places, names): (Vec<String>, Vec<String>) = (row.try_get(4)?, row.try_get(5)?);
        let counts: Vec<i64> = row.try_get(6)?;
        for ((place, name), count) in places.into_iter().zip(names).zip(counts) {
            erased.add_values(place, name, unsigned(count));
        }
        let last = at.zip(id).map(|(at, id)| Place { at, id });
        Ok(Visited { rows: unsigned(row.try_get(0)?), last, erased })
    }
}

/// Pushes whether a row `c` is this actor's.
fn push_is_actor(actor: Option<&ActorRef>, statement: &mut Statement) {
    let Some(actor) = actor else {
        statement.push("false");
        return;
    };
    statement.push("coalesce(c.actor_ref ->> 'type' = ").bind(actor.kind().as_str());
    statement.push(" and c.actor_ref ->> 'id' = ").bind(actor.id().unwrap_or_default()).push(", false)");
}

fn push_last(statement: &mut Statement) {
    statement.push(
        " left join lateral (select s.at::text as at, s.id from seen s order by s.at desc, s.id desc limit 1) l on true",
    );
}

/// Pushes the update of what `scrubbed` holds. The hash of before the first erasure stays.
fn push_update(table: &str, columns: &[(&str, &str)], run: Uuid, statement: &mut Statement) {
    statement.push(", merged as materialized (select s.id");
    for (column, _) in columns {
        statement.push(&format!(", max(s.new) filter (where s.name = '{column}') as {column}"));
    }
    statement.push(
        ", jsonb_object_agg(s.name, jsonb_strip_nulls(jsonb_build_object(
               'sha256', coalesce(s.kept, encode(sha256(convert_to(s.old, 'UTF8')), 'hex')),
               'keys', case when s.keys is not null then (
                    select jsonb_agg(distinct k.key) from (
                        select jsonb_array_elements_text(s.keys)
                        union all select jsonb_array_elements_text(case jsonb_typeof(s.before) when 'array' then s.before else '[]' end)) k (key)) end))) as columns
          from scrubbed s group by s.id), ",
    );
    statement.push(&format!("updated as (update {table} c set "));
    for (column, cast) in columns {
        statement.push(&format!("{column} = coalesce(m.{column}{cast}, c.{column}), "));
    }
    statement.push("erased = jsonb_build_object('run', ").bind(run.to_string()).push(
        "::text, 'columns', (case jsonb_typeof(c.erased -> 'columns') when 'object' then c.erased -> 'columns' else '{}' end) || m.columns)
         from merged m where c.id = m.id)",
    );
}

impl What {
    /// The columns that it writes to, and what their text is cast to.
    fn columns(&self, table: &str) -> Vec<(&'static str, &'static str)> {
        match (self, table) {
            (Self::Columns { key_too, .. }, _) => {
                let keys = KEYS.iter().filter(|_| *key_too);
                IMAGES.iter().chain(keys).map(|column| (*column, "::jsonb")).collect()
            }
            (Self::Comment, _) => vec![("comment", "")],
            (Self::Actor { texts: false }, _) => vec![("actor_ref", "::jsonb")],
            (Self::Actor { texts: true }, "audit_actions") => {
                vec![("actor_ref", "::jsonb"), ("reason", ""), ("comment", "")]
            }
            (Self::Actor { texts: true }, _) => {
                vec![("actor_ref", "::jsonb"), ("context", "::jsonb"), ("meta", "::jsonb")]
            }
        }
    }

    /// Pushes what becomes of the columns of a row `d`: rows of a name, the text before, the text after, and the members that go.
    fn push_parts(&self, table: &str, run: Uuid, statement: &mut Statement) {
        match self {
            Self::Columns { columns, key_too } => {
                for (number, column) in IMAGES.iter().enumerate() {
                    statement.push(if number == 0 { "" } else { " union all " });
                    push_document(column, statement, |statement| {
                        push_is_due(columns.as_deref(), *key_too, statement);
                    });
                }
                if *key_too {
                    for column in KEYS {
                        statement.push(" union all ");
                        push_key(column, run, statement);
                    }
                }
            }
            Self::Comment => {
                statement.push(
                    "select 'comment' as name, d.comment as old, '[ERASED]' as new, null::jsonb as keys",
                );
            }
            Self::Actor { texts } => {
                statement
                    .push("select 'actor_ref' as name, d.actor_ref::text as old, jsonb_build_object('type', d.actor_ref -> 'type', 'id', ")
                    .bind(pseudonym(run))
                    .push("::text)::text as new, null::jsonb as keys");
                if *texts && table == "audit_actions" {
                    for column in ["reason", "comment"] {
                        statement.push(&format!(
                            " union all select '{column}', d.{column}, '[ERASED]', null::jsonb where d.{column} <> '[ERASED]' and d.name <> all ("
                        ));
                        statement.bind(KEPT.map(str::to_owned).to_vec()).push("::text[])");
                    }
                } else if *texts {
                    for column in ["context", "meta"] {
                        statement.push(" union all ");
                        push_document(column, statement, |statement| {
                            statement.push("true");
                        });
                    }
                }
            }
        }
    }
}

/// Pushes a document with members erased, where there is something to erase. What is no object goes as a whole.
fn push_document(column: &str, statement: &mut Statement, push_is_due: impl FnOnce(&mut Statement)) {
    statement.push(&format!(
        "select '{column}' as name, d.{column}::text as old, s.new, s.keys from (
             select case jsonb_typeof(d.{column}) when 'object'
                         then jsonb_object_agg(e.key, case when e.is_due then '\"[ERASED]\"'::jsonb else e.value end)::text
                         else '\"[ERASED]\"' end as new,
                    jsonb_agg(e.key) filter (where e.is_due) as keys
             from (select f.key, f.value, f.value not in ('null', '\"[ERASED]\"') and "
    ));
    push_is_due(statement);
    statement.push(&format!(
        " as is_due from jsonb_each(case jsonb_typeof(d.{column}) when 'object' then d.{column} else '{{}}' end) f (key, value)) e) s
         where s.keys is not null
            or jsonb_typeof(d.{column}) not in ('object', 'null') and d.{column} <> '\"[ERASED]\"'"
    ));
}

/// Pushes that a member of an image goes: it is named, and no part of the key that stays.
fn push_is_due(columns: Option<&[String]>, key_too: bool, statement: &mut Statement) {
    let is_key = "d.table_pk ? f.key";
    match (columns, key_too) {
        (None, true) => statement.push("true"),
        (None, false) => statement.push(&format!("not ({is_key})")),
        (Some(columns), _) => {
            statement.push("(f.key = any (").bind(columns.to_vec());
            statement.push(&format!("::text[]) {} {is_key})", if key_too { "or" } else { "and not" }))
        }
    };
}

/// Pushes a key with its texts replaced.
fn push_key(column: &str, run: Uuid, statement: &mut Statement) {
    statement
        .push(&format!(
            "select '{column}' as name, d.{column}::text as old, s.new, s.keys from (
                 select jsonb_object_agg(e.key, case when e.is_due then to_jsonb("
        ))
        .bind(pseudonym(run))
        .push(&format!(
            "::text) else e.value end)::text as new, jsonb_agg(e.key) filter (where e.is_due) as keys
                 from (select f.key, f.value, not ({IS_PSEUDONYM}) as is_due
                       from jsonb_each(case jsonb_typeof(d.{column}) when 'object' then d.{column} else '{{}}' end) f (key, value)) e) s
             where s.keys is not null"
        ));
}
