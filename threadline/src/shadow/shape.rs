//! The shape of both tables: everything but their rows. A host's migration that changes one of them must change the other too, or a
//! swap would undo it.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{SHADOW, Shadow, ShadowError, triggers};

/// Most differences that are named for each table.
const NAMED: usize = 10;

/// The indexes of both tables, numbered among those that differ in nothing but their names; and whether one only finds rows, and
/// refuses none.
pub(super) const INDEXES: &str = "
    select i.indrelid, i.indexrelid, i.indisclustered, i.indisreplident, not i.indisunique and k.oid is null as finds_only,
           quote_ident(c.relname) as name, m.method, d.text,
           row_number() over (partition by i.indrelid, d.text order by c.oid) as nth
    from pg_index i join pg_class c on c.oid = i.indexrelid
    left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
    cross join lateral (select substring(pg_get_indexdef(i.indexrelid) from ' USING .*$') as method) m
    cross join lateral (select i.indisunique::text || coalesce(pg_get_constraintdef(k.oid), '') || m.method as text) d
    where i.indrelid in ($1::text::regclass, $2::text::regclass)";

/// One line for each property of each table, and whether it is the first one. Their comments are left out: a swap exchanges them.
const LINES: &str = "
    with tables as (
        select c.*, c.oid = $1::text::regclass as is_live
        from pg_class c where c.oid in ($1::text::regclass, $2::text::regclass))
    select t.is_live, l.line
    from tables t cross join lateral (
        select 'owner ' || quote_ident(pg_get_userbyid(t.relowner))
        union all
        select 'storage parameter ' || o from unnest(t.reloptions) o
        union all
        select 'storage parameter toast.' || o from pg_class x, unnest(x.reloptions) o where x.oid = t.reltoastrelid
        union all
        select 'row level security' where t.relrowsecurity
        union all
        select 'row level security of its owner' where t.relforcerowsecurity
        union all
        select 'replica identity ' || case t.relreplident when 'f' then 'full' when 'n' then 'nothing' else 'by index' end
        where t.relreplident <> 'd'
        union all
        select 'no write-ahead log (unlogged)' where t.relpersistence = 'u'
        union all
        select 'tablespace ' || quote_ident(s.spcname) from pg_tablespace s where s.oid = t.reltablespace
        union all
        select 'access method ' || quote_ident(m.amname) from pg_am m where m.oid = t.relam
        union all
        select 'type ' || t.reloftype::regtype where t.reloftype <> 0
        union all
        select distinct format('grant of %s to %s%s', lower(a.privilege_type), w.grantee, w.option)
        from aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a
        cross join lateral (
            select case a.grantee when 0 then 'public' when t.relowner then 'its owner'
                                  else quote_ident(pg_get_userbyid(a.grantee)) end as grantee,
                   case when a.is_grantable then ' with grant option' else '' end as option) w
        union all
        select distinct format('grant of %s (%I) to %s%s', lower(a.privilege_type), c.attname,
                               case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                               case when a.is_grantable then ' with grant option' else '' end)
        from pg_attribute c, aclexplode(c.attacl) a where c.attrelid = t.oid and not c.attisdropped
        union all
        select p.line
        from pg_attribute c
        join pg_type y on y.oid = c.atttypid
        left join pg_collation n on n.oid = c.attcollation and c.attcollation <> y.typcollation
        left join pg_attrdef f on f.adrelid = c.attrelid and f.adnum = c.attnum
        cross join lateral (
            select format('column %I %s%s', c.attname, format_type(c.atttypid, c.atttypmod),
                          coalesce(' collate ' || quote_ident(n.collname), ''))
            union all
            select format('not null of column %I', c.attname) where c.attnotnull
            union all
            select format(case c.attgenerated when '' then 'default of column %I: %s' else 'generated column %I: %s' end,
                          c.attname, pg_get_expr(f.adbin, f.adrelid))
            where f.oid is not null
            union all
            select format('identity of column %I: %s', c.attname, case c.attidentity when 'a' then 'always' else 'by default' end)
            where c.attidentity <> ''
            union all
            select format('storage of column %I: %s', c.attname, c.attstorage) where c.attstorage <> y.typstorage
            union all
            select format('compression of column %I: %s', c.attname, c.attcompression) where c.attcompression <> ''
            union all
            select format('statistics target of column %I: %s', c.attname, c.attstattarget) where c.attstattarget >= 0
            union all
            select format('option of column %I: %s', c.attname, o) from unnest(c.attoptions) o
            -- Those that a host sets; a server may keep others for itself.
            where starts_with(o, 'n_distinct')
            union all
            select format('comment on column %I: %L', c.attname, d.description)
            from pg_description d where d.objoid = t.oid and d.classoid = 'pg_class'::regclass and d.objsubid = c.attnum) p (line)
        where c.attrelid = t.oid and c.attnum > 0 and not c.attisdropped
        union all
        select format('constraint %s%s%s', case when k.contype in ('c', 'f') then quote_ident(k.conname) || ' ' else '' end,
                      regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''),
                      coalesce(', its comment ' || quote_literal(obj_description(k.oid, 'pg_constraint')), ''))
        -- The other kinds are triggers, or said of the column.
        from pg_constraint k where k.conrelid = t.oid and k.contype in ('c', 'f', 'p', 'u', 'x')
        union all
        select format('%sindex%s%s%s%s', case when i.indisunique then 'unique ' else '' end,
                      lower(substring(d.text from '^ USING ')) || substring(d.text from '^ USING (.*)$'),
                      coalesce(', its comment ' || quote_literal(obj_description(i.indexrelid, 'pg_class')), ''),
                      case when i.indisclustered then ', clustered on' else '' end,
                      case when i.indisreplident then ', the replica identity' else '' end)
        from pg_index i cross join lateral (
            select substring(pg_get_indexdef(i.indexrelid) from ' USING .*$') as text) d
        where i.indrelid = t.oid
        union all
        select format('statistics (%s) on %s%s', array_to_string(s.stxkind, ', '), pg_get_statisticsobjdef_columns(s.oid),
                      coalesce(', their target ' || nullif(s.stxstattarget, -1), ''))
        from pg_statistic_ext s where s.stxrelid = t.oid
        union all
        select 'trigger ' || quote_ident(g.tgname) from pg_trigger g
        where g.tgrelid = t.oid and not g.tgisinternal and g.tgname <> all ($3)
        union all
        select 'policy ' || quote_ident(p.polname) from pg_policy p where p.polrelid = t.oid
        union all
        select 'rule ' || quote_ident(r.rulename) from pg_rewrite r where r.ev_class = t.oid
        union all
        select format('security label of %I: %L', s.provider, s.label) from pg_seclabel s
        where s.classoid = 'pg_class'::regclass and s.objoid = t.oid) l (line)
    order by 2";

/// What `like … including all` leaves out, as statements.
fn left_out() -> String {
    format!(
        "with live as (select c.* from pg_class c where c.oid = $1::text::regclass),
         shadow as (select c.* from pg_class c where c.oid = $2::text::regclass),
         described as ({INDEXES}),
         pairs as (
             select o.indisclustered, o.indisreplident, t.name
             from described o join described t using (text, nth)
             where o.indrelid = $1::text::regclass and t.indrelid = $2::text::regclass)
         select s.statement from (
             select 1 as nth, format('alter table %s owner to %I', $2::text, pg_get_userbyid(relowner)) as statement from live
             union all
             -- Default privileges have given something to the new table.
             select 2, format('revoke all on %s from %s', $2::text,
                              case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end)
             from (select a.grantee from shadow, aclexplode(coalesce(relacl, acldefault('r', relowner))) a
                   union select relowner from live) g
             union all
             select 3, format('grant %s on %s to %s%s', a.privilege_type, $2::text,
                              case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                              case when a.is_grantable then ' with grant option' else '' end)
             from live, aclexplode(coalesce(live.relacl, acldefault('r', live.relowner))) a
             union all
             select 3, format('grant %s (%I) on %s to %s%s', a.privilege_type, t.attname, $2::text,
                              case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                              case when a.is_grantable then ' with grant option' else '' end)
             from live join pg_attribute t on t.attrelid = live.oid, aclexplode(t.attacl) a
             union all
             select 4, format('alter table %s set (%s)', $2::text, array_to_string(reloptions, ', '))
             from live where reloptions is not null
             union all
             select 4, format('alter table %s set (toast.%s)', $2::text, array_to_string(x.reloptions, ', toast.'))
             from live join pg_class x on x.oid = live.reltoastrelid where x.reloptions is not null
             union all
             select 4, format('alter table %s set unlogged', $2::text) from live where relpersistence = 'u'
             union all
             select 4, format('alter table %s set tablespace %I', $2::text, s.spcname)
             from live join pg_tablespace s on s.oid = live.reltablespace
             union all
             select 4, format('alter table %s alter column %I set statistics %s', $2::text, t.attname, t.attstattarget)
             from live join pg_attribute t on t.attrelid = live.oid and t.attnum > 0 and t.attstattarget >= 0
             where not t.attisdropped
             union all
             select 4, format('alter table %s alter column %I set (%s)', $2::text, t.attname, o)
             from live join pg_attribute t on t.attrelid = live.oid and not t.attisdropped, unnest(t.attoptions) o
             where starts_with(o, 'n_distinct')
             union all
             select 4, format('alter table %s replica identity %s', $2::text,
                              case relreplident when 'f' then 'full' else 'nothing' end)
             from live where relreplident in ('f', 'n')
             union all
             select 4, format('alter table %s replica identity using index %s', $2::text, name) from pairs where indisreplident
             union all
             select 4, format('alter table %s cluster on %s', $2::text, name) from pairs where indisclustered) s
         order by s.nth"
    )
}

impl Shadow {
    /// Gives the second table what `like … including all` leaves out.
    pub(super) async fn complete(&self, connection: &mut PgConnection) -> Result<(), ShadowError> {
        let statements: Vec<String> = sqlx::query_scalar(AssertSqlSafe(left_out()))
            .bind(self.live().to_string())
            .bind(self.table().to_string())
            .fetch_all(&mut *connection)
            .await?;
        for statement in statements {
            connection.execute(AssertSqlSafe(statement)).await?;
        }
        let [first, second] = self.differences(connection).await?;
        let lacking: Vec<String> = first.into_iter().chain(second).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(ShadowError::Incompatible(format!(
            "a second table made like audit_actions differs from it: {}. Remove that for the time of the rebuild and recreate it \
             afterwards",
            listed(&lacking)
        )))
    }

    /// Whether a swap would undo what was done to one of the tables since the second one was made. Under a lock on both
    /// the answer holds until its end.
    ///
    /// # Errors
    /// When it would, with what is to be done; or the server is away.
    pub async fn refuse_what_would_be_undone(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShadowError> {
        let differences = self.differences(connection).await?;
        self.refuse(connection, differences).await
    }

    /// The same before indexes are built: one that only finds rows is not missed yet.
    ///
    /// # Errors
    /// When a swap would undo something else, with what is to be done; or the server is away.
    pub async fn refuse_what_cannot_be_completed(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShadowError> {
        let [mut first, second] = self.differences(connection).await?;
        first.retain(|line| !line.starts_with("index "));
        self.refuse(connection, [first, second]).await
    }

    async fn refuse(
        &self,
        connection: &mut PgConnection,
        [first, second]: [Vec<String>; 2],
    ) -> Result<(), ShadowError> {
        self.refuse_what_would_be_left_behind(connection).await?;
        self.refuse_a_journal_with_gaps(connection).await?;
        let only = |table: &str, lines: &[String]| match lines {
            [] => None,
            lines => Some(format!("only {table} has {}", listed(lines))),
        };
        let differences: Vec<String> =
            only("audit_actions", &first).into_iter().chain(only(SHADOW, &second)).collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(ShadowError::Incompatible(format!(
            "audit_actions was changed since the second table, {SHADOW}, was made like it, or that was: {}. A swap would undo this. \
             Apply the same to the other table; or run `consumer rebuild --drop-old`, and rebuild again",
            differences.join("; ")
        )))
    }

    /// What only the first table has, and what only the second has.
    async fn differences(&self, connection: &mut PgConnection) -> Result<[Vec<String>; 2], sqlx::Error> {
        let lines: Vec<(bool, String)> = sqlx::query_as(AssertSqlSafe(LINES))
            .bind(self.live().to_string())
            .bind(self.table().to_string())
            .bind(triggers())
            .fetch_all(connection)
            .await?;
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for (is_live, line) in &lines {
            *counts.entry(line).or_default() += if *is_live { 1 } else { -1 };
        }
        let only = |sign: i64| {
            let mut only: Vec<String> =
                counts.iter().filter(|(_, n)| **n * sign > 0).map(|(line, _)| (*line).to_owned()).collect();
            only.sort_unstable();
            only
        };
        Ok([only(1), only(-1)])
    }
}

fn listed(lines: &[String]) -> String {
    let named = lines.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match lines.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
