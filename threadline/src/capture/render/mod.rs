//! The SQL of capture: functions and triggers of one table.
//!
//! Bodies name the storage schema and qualify everything else, operators too; they handle rows as whole documents and never by typed
//! columns, so that sessions that are open while a column comes, goes or changes its type continue.

mod redact;
mod row;
mod statement;
mod trigger;

use super::{
    names::{FunctionPrefix, HostTable, array, literal, quote},
    policy::{Level, Policy},
    refusal::Refusal,
    table::Table,
};
use crate::StorageSchema;

pub(super) use trigger::{drop_all, guard, triggers};

/// Of this generator: what it renders otherwise than before gets another number.
pub const GENERATOR: i32 = 1;

/// Settings under which values are rendered, whatever the writer's are.
const RENDERING: &str = "set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' \
     set extra_float_digits = 1 set bytea_output = 'hex'";

/// Everything that is known about the capture of one table.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where the timeline is.
    pub storage: StorageSchema,
    /// As it is.
    pub table: Table,
    /// What is wanted.
    pub policy: Policy,
    /// Where its triggers fire.
    pub level: Level,
    /// Names of key columns.
    pub key: Vec<String>,
}

/// A function to be made.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) definition: String,
}

impl Capture {
    /// Of a table under a policy.
    ///
    /// # Errors
    /// When the table cannot be captured so.
    pub fn new(storage: StorageSchema, table: Table, policy: Policy) -> Result<Self, Refusal> {
        let key = table.check(&policy)?;
        let level = table.level(&policy);
        Ok(Self { storage, table, policy, level, key })
    }

    pub(super) fn name(&self) -> &HostTable {
        &self.table.name
    }

    /// Something of the storage schema.
    fn ours(&self, name: &str) -> String {
        format!("{}.{}", quote(self.storage.as_str()), quote(name))
    }

    /// The functions of its level, the main one first.
    pub(super) fn functions(&self) -> Vec<Function> {
        let function = |prefix, body: String| {
            let name = self.name().function(prefix);
            let definition = format!(
                "create or replace function {}() returns trigger\nlanguage plpgsql volatile security definer\n{RENDERING}\n\
                 as $body$\n{body}\n$body$;",
                self.ours(&name)
            );
            Function { name, definition }
        };
        match self.level {
            Level::Row => vec![function(FunctionPrefix::Changes, row::body(self))],
            Level::Statement => vec![
                function(FunctionPrefix::Changes, statement::insert(self)),
                function(FunctionPrefix::Updates, statement::update(self)),
                function(FunctionPrefix::Deletes, statement::delete(self)),
            ],
        }
    }

    /// The key of a row, each value as text; empty when a column of it is gone.
    fn key_of(&self, image: &str) -> String {
        let value = |column: &String| format!("{image} operator(pg_catalog.->>) {}", literal(column));
        let gone: Vec<String> = self.key.iter().map(|column| format!("{} is null", value(column))).collect();
        let pairs: Vec<String> =
            self.key.iter().map(|column| format!("{}, {}", literal(column), value(column))).collect();
        format!(
            "case when {} then '{{}}'::pg_catalog.jsonb else pg_catalog.jsonb_build_object({}) end",
            gone.join(" or "),
            pairs.join(", ")
        )
    }

    /// The key before an update, where the update has changed it.
    fn key_before(&self, fields: &str, before: &str) -> String {
        format!(
            "case when {fields} operator(pg_catalog.&&) {} then {} end",
            array(&self.key),
            self.key_of(before)
        )
    }

    /// Which documents are null in SQL; `row` is the row itself. Nothing for a table without documents.
    fn nulls_of(&self, image: &str, row: &str) -> String {
        let hidden = [&self.policy.exclude, &self.policy.mask];
        let documents: Vec<String> = self
            .table
            .document_columns()
            .into_iter()
            .filter(|column| !hidden.iter().any(|columns| columns.contains(column)))
            .collect();
        if documents.is_empty() {
            return "null".to_owned();
        }
        let is_null = |column: &String| {
            format!(
                "{image} operator(pg_catalog.->) {} operator(pg_catalog.=) 'null'::pg_catalog.jsonb",
                literal(column)
            )
        };
        let any: Vec<String> = documents.iter().map(is_null).collect();
        format!(
            "case when {} then {}({}, pg_catalog.row_to_json({row}), pg_catalog.record_send({row})) end",
            any.join(" or "),
            self.ours("threadline_json_nulls"),
            array(&documents)
        )
    }

    /// Columns that do not count as changed.
    fn ignored(&self) -> Vec<String> {
        let mut ignored =
            [&self.policy.exclude[..], &self.policy.except, &self.table.virtual_columns()].concat();
        ignored.sort();
        ignored.dedup();
        ignored
    }

    /// Columns that count, in the order of `changed_fields`.
    fn counted(&self) -> Vec<String> {
        let ignored = self.ignored();
        let mut counted = self.table.column_names();
        counted.retain(|column| !ignored.contains(column));
        counted.sort();
        counted
    }

    /// Whether an image has no columns but those that were there when this was generated.
    fn is_known(&self, image: &str) -> String {
        let known = [self.table.column_names(), self.table.virtual_columns()].concat();
        format!(
            "{image} operator(pg_catalog.-) {} operator(pg_catalog.=) '{{}}'::pg_catalog.jsonb",
            array(&known)
        )
    }

    /// Names of the columns that an update changed, of images without unknown columns; empty when there are none.
    fn fields(&self, before: &str, after: &str) -> String {
        self.columns_that(before, after, "not ")
    }

    /// Values of these columns before the update; `shown` is what of `before` may be stored.
    fn was(&self, before: &str, after: &str, shown: &str) -> String {
        if !self.policy.store_changed_from {
            return "null::pg_catalog.jsonb".to_owned();
        }
        let others = match self.ignored() {
            ignored if ignored.is_empty() => String::new(),
            ignored => format!(" operator(pg_catalog.-) {}", array(&ignored)),
        };
        format!("({shown}){others} operator(pg_catalog.-) {}", self.columns_that(before, after, ""))
    }

    fn columns_that(&self, before: &str, after: &str, not: &str) -> String {
        let case = |column: &String| {
            let column = literal(column);
            format!(
                "case when {not}({after} operator(pg_catalog.->) {column} operator(pg_catalog.=) \
                 ({before} operator(pg_catalog.->) {column})) then {column} end"
            )
        };
        let cases: Vec<String> = self.counted().iter().map(case).collect();
        format!("pg_catalog.array_remove(array[{}]::pg_catalog.text[], null)", cases.join(", "))
    }

    /// The same for images with columns that came later, as sub-selects.
    fn later_fields(&self, before: &str, after: &str) -> String {
        let ignored = self.ignored();
        let counts = if ignored.is_empty() {
            String::new()
        } else {
            format!(" and not e.key operator(pg_catalog.=) any ({})", array(&ignored))
        };
        format!(
            "(select coalesce(pg_catalog.array_agg(e.key order by e.key collate pg_catalog.\"C\"), '{{}}')
                from pg_catalog.jsonb_each({after}) e
                where not e.value operator(pg_catalog.=) ({before} operator(pg_catalog.->) e.key){counts})"
        )
    }

    fn later_was(&self, fields: &str, shown: &str) -> String {
        if !self.policy.store_changed_from {
            return "null::pg_catalog.jsonb".to_owned();
        }
        format!(
            "(select pg_catalog.jsonb_object_agg(f.name, ({shown}) operator(pg_catalog.->) f.name)
                from pg_catalog.unnest({fields}) f (name))"
        )
    }

    /// The insert of an update's change, of the plpgsql variables `before` and `after`; returns early when nothing counts.
    fn record_update(&self, nulls: &str) -> String {
        let (schema, table, partition) = self.filed_under();
        let (known, fields, was) =
            (self.is_known("after"), self.fields("before", "after"), self.was("before", "after", "shown"));
        let (later_fields, later_was) =
            (self.later_fields("before", "after"), self.later_was("fields", "shown"));
        let (shown_before, shown_after) = (self.redact("before"), self.redact("after"));
        let (key, key_before) = (self.key_of("after"), self.key_before("fields", "before"));
        let (changes, transaction) = (self.ours("audit_changes"), self.ours("threadline_transaction_id"));
        format!(
            "        if after operator(pg_catalog.=) before then
            return null;
        end if;
        shown := {shown_before};
        if {known} then
            fields := {fields};
            was := {was};
        else
            fields := {later_fields};
            was := {later_was};
        end if;
        if pg_catalog.cardinality(fields) operator(pg_catalog.=) 0 then
            return null;
        end if;
        insert into {changes} (transaction_id, table_schema, table_name, partition, table_pk, key_before, op, data_after, json_nulls,
            changed_fields, changed_from, captured_at)
        values ({transaction}(), {schema}, {table}, {partition},
            {key},
            {key_before},
            'update',
            {shown_after},
            {nulls},
            fields, was, pg_catalog.clock_timestamp());"
        )
    }

    /// Under which name a change is filed: schema, table, and the partition that it came through.
    fn filed_under(&self) -> (String, String, &'static str) {
        if self.table.is_partitioned() {
            let name = self.name();
            (
                literal(&name.schema),
                literal(&name.name),
                "pg_catalog.concat(tg_table_schema, '.', tg_table_name)",
            )
        } else {
            ("tg_table_schema".to_owned(), "tg_table_name".to_owned(), "null")
        }
    }
}
