//! What depends on `audit_actions` by its identity, and would still point to the old table after a swap of names.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Shadow, ShadowError, triggers};

/// From the server's own list of dependencies, whatever kind of object it is. Left out is what belongs to the table itself and is
/// made for the second one as well (types, indexes, constraints, defaults, sequences, statistics), our triggers, and foreign keys,
/// which the swap takes along.
const DEPENDENTS: &str = "
    with live as (
        select c.oid, c.relnamespace, c.relrowsecurity, c.reltype, y.typarray
        from pg_class c join pg_type y on y.oid = c.reltype where c.oid = $1::text::regclass),
    own (classid, objid) as (
        select 'pg_type'::regclass, unnest(array[reltype, typarray]) from live
        union all
        -- In PostgreSQL 14 it is a generated column itself that depends on others, later its default.
        select 'pg_class'::regclass, oid from live
        union all
        select 'pg_class'::regclass, i.indexrelid from pg_index i join live on i.indrelid = live.oid
        union all
        select 'pg_class'::regclass, c.reltoastrelid from pg_class c join live using (oid)
        union all
        select 'pg_class'::regclass, d.objid from pg_depend d join live on d.refobjid = live.oid join pg_class s on s.oid = d.objid
        where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_class'::regclass and s.relkind = 'S'
        union all
        select 'pg_constraint'::regclass, k.oid
        from pg_constraint k join live on live.oid in (k.conrelid, k.confrelid) left join pg_class t on t.oid = k.conrelid
        where k.contype <> 'f' and k.conrelid = live.oid or k.contype = 'f' and k.conrelid <> live.oid and t.relkind <> 'p'
        union all
        select 'pg_attrdef'::regclass, f.oid from pg_attrdef f join live on f.adrelid = live.oid
        union all
        select 'pg_statistic_ext'::regclass, s.oid from pg_statistic_ext s join live on s.stxrelid = live.oid
        union all
        select 'pg_trigger'::regclass, t.oid from pg_trigger t
        where t.tgisinternal or t.tgrelid = (select oid from live) and t.tgname = any ($2)),
    dependent as (
        select distinct d.classid, d.objid, d.objsubid
        from pg_depend d join live
          on d.refclassid = 'pg_class'::regclass and d.refobjid = live.oid
          or d.refclassid = 'pg_type'::regclass and d.refobjid in (live.reltype, live.typarray)
        where not exists (select from own o where o.classid = d.classid and o.objid = d.objid))
    select distinct coalesce(
        case d.classid
            when 'pg_rewrite'::regclass then (
                -- As somebody who works in this schema calls it.
                select case when r.ev_class = live.oid then 'rule ' || quote_ident(r.rulename)
                            else case v.relkind when 'v' then 'view ' when 'm' then 'materialized view '
                                 else format('rule %I on ', r.rulename) end
                                 || case when v.relnamespace = live.relnamespace then quote_ident(v.relname)
                                         else v.oid::regclass::text end end
                from pg_rewrite r join pg_class v on v.oid = r.ev_class where r.oid = d.objid)
            when 'pg_trigger'::regclass then (
                select 'trigger ' || quote_ident(t.tgname) from pg_trigger t where t.oid = d.objid and t.tgrelid = live.oid)
            when 'pg_policy'::regclass then (
                select 'policy ' || quote_ident(p.polname) from pg_policy p where p.oid = d.objid and p.polrelid = live.oid)
            when 'pg_publication_rel'::regclass then (
                select 'publication ' || quote_ident(b.pubname)
                from pg_publication_rel p join pg_publication b on b.oid = p.prpubid where p.oid = d.objid)
            when 'pg_constraint'::regclass then (
                select case when k.conrelid = live.oid then 'a foreign key of its own, '
                            else 'a foreign key of a partitioned table, ' end || quote_ident(k.conname)
                from pg_constraint k where k.oid = d.objid and k.contype = 'f')
        end, pg_describe_object(d.classid, d.objid, d.objsubid))
    from dependent d, live
    union all
    select 'row level security' from live where relrowsecurity
    union all
    select format('publication %I for all tables', b.pubname) from pg_publication b where b.puballtables
    union all
    -- No dependency is on record.
    select format('subscription %I', s.subname)
    from pg_subscription_rel r join pg_subscription s on s.oid = r.srsubid join live on live.oid = r.srrelid
    union all
    select pg_describe_object(d.classid, d.objid, 0)
    from pg_depend d join live on d.refclassid = 'pg_namespace'::regclass and d.refobjid = live.relnamespace
    -- Not before PostgreSQL 15.
    where d.classid = to_regclass('pg_catalog.pg_publication_namespace')
    union all
    select 'its place in ' || pg_describe_object(d.refclassid, d.refobjid, 0)
    from pg_depend d join live on d.classid = 'pg_class'::regclass and d.objid = live.oid and d.objsubid = 0
    where d.deptype = 'e' or d.refclassid = 'pg_class'::regclass
    order by 1";

impl Shadow {
    /// Objects that a swap would leave with the old table.
    ///
    /// # Errors
    /// When there are some, with their names.
    pub(super) async fn refuse_what_would_be_left_behind(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShadowError> {
        let left: Vec<String> = sqlx::query_scalar(AssertSqlSafe(DEPENDENTS))
            .bind(self.live().to_string())
            .bind(triggers())
            .fetch_all(connection)
            .await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(ShadowError::Incompatible(format!(
            "a swap of audit_actions would leave behind what belongs to it or depends on it: {}. Remove it for the time of the \
             rebuild and recreate it afterwards",
            left.join(", ")
        )))
    }
}
