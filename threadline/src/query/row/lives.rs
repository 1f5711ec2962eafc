//! Every row that ever had a key, with all keys that it had before and later: for whoever is to miss no change, at the price of a walk over
//! the table's.
//!
//! A history follows the last row that had the key. Here each of them counts, and so do changes of keys that the Elixir library's triggers
//! wrote, in both directions: no index leads from the key before to these, so that all changes of the table are visited.

use std::{collections::HashSet, time::Duration};

use sqlx::Row as _;
use uuid::Uuid;

use super::super::Statement;
use super::{
    ReadError, Reader, Row,
    events::{Event, Found, Probe, Wanted},
    lineage::{Lineage, Segment},
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// The key of a change `c` before it, as the Elixir library's triggers say it too.
pub(crate) const KEY_BEFORE: &str = "case when c.key_before is not null then c.key_before::text
     when c.op = 'update' and jsonb_typeof(c.table_pk) = 'object' and jsonb_typeof(c.changed_from) = 'object'
          and c.changed_from ?| array(select jsonb_object_keys(c.table_pk))
     then (select jsonb_object_agg(k.key, coalesce(c.changed_from ->> k.key, k.value)) from jsonb_each_text(c.table_pk) k)::text end";

/// Keys of one row that an erasure follows at most.
pub(crate) const LIVES_MAX: usize = 100;

/// Changes that one statement of the walk visits.
const WALKED: i64 = 10_000;

/// Changes of keys of one table that only the values before say, at most.
const SILENT_MAX: usize = 20_000;

impl Reader {
    /// The keys of every row that ever had this key. A statement has this time.
    pub(super) async fn lives(&self, row: &Row, time: Duration) -> Result<Lineage, ReadError> {
        let mut silent = Vec::new();
        for source in &row.sources {
            self.walk(source, time, &mut silent).await?;
        }
        let has_more = silent.len() > SILENT_MAX;
        let mut reading = Reading::begin(self, Some(time)).await?;
        reading.silent = silent;
        let wanted = [Wanted::EveryArrival, Wanted::EveryDeparture, Wanted::Oldest];
        let found = reading
            .probe(&row.sources, Probe { key: &row.key, before: None, after: None, wanted: &wanted })
            .await?;
        let mut lives = Lineage {
            segments: vec![Segment { has_departures: true, ..Segment::of(row.key.clone()) }],
            has_more,
            limit: LIVES_MAX,
            arrivals: Wanted::EveryArrival,
        };
        let mut seen = HashSet::new();
        for departure in found.departures {
            if !seen.contains(&departure.id) {
                reading.follow_forwards(row, departure, &mut lives, &mut seen).await?;
            }
        }
        reading.follow_backwards(row, found.arrivals, &mut lives, &mut seen).await?;
        Ok(lives)
    }

    /// Collects the changes of keys that say no key before, a few more than there may be at most.
    async fn walk(&self, source: &Source, time: Duration, silent: &mut Vec<Event>) -> Result<(), ReadError> {
        let mut after: Option<(String, Uuid)> = None;
        while silent.len() <= SILENT_MAX {
            let statement = self.walk_statement(source, after.as_ref());
            let rows = Reading::begin(self, Some(time)).await?.fetch_all(&statement).await?;
            let mut is_end = true;
            for row in &rows {
                if row.try_get::<String, _>(0)? == "last" {
                    after = Some((row.try_get(6)?, row.try_get(1)?));
                    is_end = row.try_get::<i64, _>(7)? < WALKED;
                } else {
                    silent.extend(Event::read(row)?);
                }
            }
            if is_end {
                break;
            }
        }
        Ok(())
    }

    /// The next changes of a source in the order of their times: those of keys, and where they end, with how many were visited as its position.
    fn walk_statement(&self, source: &Source, after: Option<&(String, Uuid)>) -> Statement {
        let sources = std::slice::from_ref(source);
        let first = ("-infinity".to_owned(), Uuid::nil());
        let (at, id) = after.unwrap_or(&first);
        let comparison = if after.is_some() { ">" } else { ">=" };
        let mut statement = Statement::new(format!(
            "with seen as materialized (
                 select c.id, c.captured_at, c.key_before is null and {KEY_BEFORE} <> c.table_pk::text as is_silent
                 from {table} c where (c.table_name, c.captured_at, c.id) {comparison} (",
            table = self.schema().table("audit_changes")
        ));
        statement.bind(&source.name).push(", ").bind(at).push("::timestamptz, ").bind(*id);
        statement.push(") and (c.table_name) <= (").bind(&source.name);
        statement.push(") order by c.table_name, c.captured_at, c.id limit ").bind(WALKED).push(&format!(
            ") select 'silent' as label, c.id, c.transaction_id, c.table_pk::text, {KEY_BEFORE},
                      least(greatest(c.captured_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), c.captured_at::text,
                      c.position, c.changed_fields, c.changed_from::text from ",
        ));
        push_sources(sources, &mut statement);
        statement.push(&format!(
            " join {table} c on c.id = any (array(select s.id from seen s where s.is_silent)){}
              union all (
                  select 'last', s.id, null, null, null, null, s.captured_at::text, (select count(*) from seen), null, null
                  from seen s order by s.captured_at desc, s.id desc limit 1)",
            of_source(sources),
            table = self.schema().table("audit_changes")
        ));
        statement
    }
}

impl Reading<'_> {
    /// Adds what the walk has found to what the indexes lead to.
    pub(super) fn add_silent(&self, probe: Probe<'_>, found: &mut Found) {
        let is_between = |event: &&Event| {
            probe.after.is_none_or(|after| after.place() < event.place())
                && probe.before.is_none_or(|before| event.place() < before.place())
        };
        for event in self.silent.iter().filter(is_between) {
            for wanted in probe.wanted {
                match wanted {
                    Wanted::Arrivals | Wanted::EveryArrival if event.to == *probe.key => {
                        found.arrivals.push(event.clone());
                    }
                    Wanted::EveryDeparture if event.from == *probe.key => {
                        found.departures.push(event.clone());
                    }
                    Wanted::LastDeparture | Wanted::FirstDeparture if event.from == *probe.key => {
                        let is_nearer = found.departure.as_ref().is_none_or(|known| {
                            (known.place() < event.place()) == (*wanted == Wanted::LastDeparture)
                        });
                        if is_nearer {
                            found.departure = Some(event.clone());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
