//! The SQL of capture: functions and triggers of one table.
//!
//! Bodies name the storage schema and qualify everything else, operators too; they handle rows as whole documents and never by typed
//! columns, so that sessions that are open while a column comes, goes or changes its type continue.

mod redact;
mod row;
mod statement;
mod trigger;

use sha2::{Digest as _, Sha256};

use super::{
    library::LibraryTrigger,
    names::{FunctionPrefix, HostTable, array, literal, quote},
    policy::{Level, Policy},
    refusal::Refusal,
    table::Table,
};
use crate::{StorageSchema, signing::hexadecimal};

pub(super) use trigger::{
    drop_all, drop_functions, guard, guard_functions, in_place, is_on, row_trigger, row_trigger_name,
    triggers,
};

/// Of this generator: what it renders otherwise than before gets another number.
pub const GENERATOR: i32 = 3;

/// Bytes of a stored row above which its image may exceed what a document can hold. The worst expansion is an array of nulls, a bit
/// each, compressed 255 times, of which each becomes four bytes.
const LARGE: usize = 32_768;

/// Whether the session renders values as they are stored.
const RENDERS_ALIKE: &str = "pg_catalog.current_setting('TimeZone') operator(pg_catalog.=) any ('{UTC,Etc/UTC,GMT}'::pg_catalog.text[])
            and pg_catalog.left(pg_catalog.current_setting('DateStyle'), 3) operator(pg_catalog.=) 'ISO'
            and pg_catalog.current_setting('IntervalStyle') operator(pg_catalog.=) 'postgres'
            and pg_catalog.current_setting('extra_float_digits') operator(pg_catalog.=) any ('{1,2,3}'::pg_catalog.text[])
            and pg_catalog.current_setting('bytea_output') operator(pg_catalog.=) 'hex'";

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
    /// Triggers of the Elixir library's that capture it until now.
    pub library: Vec<LibraryTrigger>,
}

/// A function to be made.
pub(crate) struct Function {
    pub(crate) name: String,
    /// As the catalog has it.
    pub(crate) body: String,
    pub(super) definition: String,
}

impl Function {
    /// SHA-256 of its body, in hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        hexadecimal(&Sha256::digest(self.body.as_bytes()))
    }
}

impl Capture {
    /// Of a table under a policy.
    ///
    /// # Errors
    /// When the table cannot be captured so.
    pub fn new(storage: StorageSchema, table: Table, policy: Policy) -> Result<Self, Refusal> {
        let key = table.check(&policy)?;
        let level = table.level(&policy);
        Ok(Self { storage, table, policy, level, key, library: Vec::new() })
    }

    /// Whether triggers of ours capture the table already.
    #[must_use]
    pub fn is_rerun(&self) -> bool {
        self.table.has_capture() && self.library.is_empty()
    }

    pub(super) fn name(&self) -> &HostTable {
        &self.table.name
    }

    /// Something of the storage schema.
    fn ours(&self, name: &str) -> String {
        format!("{}.{}", quote(self.storage.as_str()), quote(name))
    }

    /// The functions of its level, the main one first.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let function = |prefix, body: String| {
            let name = self.name().function(prefix);
            let body = format!("\n{body}\n");
            let definition = format!(
                "create or replace function {}() returns trigger\nlanguage plpgsql volatile security definer\n\
                 as $body${body}$body$;",
                self.ours(&name)
            );
            Function { name, body, definition }
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

    /// A body with these declarations and statements; `exit capture` leaves them. Settings that render values are changed for a
    /// session in which they differ, and restored: a `set` of the function would cost each call a tenth.
    fn body(&self, declarations: &str, statements: &str) -> String {
        format!(
            "declare
{declarations}    rendering pg_catalog.text[] := case when not (
            {RENDERS_ALIKE}
        ) then {begin}() end;
begin
    <<capture>>
    begin
{statements}
    end;
    if rendering is not null then
        perform {end}(rendering);
    end if;
    return null;
end",
            begin = self.ours("threadline_begin_rendering"),
            end = self.ours("threadline_end_rendering"),
        )
    }

    /// A row as a document; one that no document can hold has placeholders for its large values.
    fn image(&self, row: &str) -> String {
        format!(
            "case when pg_catalog.pg_column_size({row}) operator(pg_catalog.<=) {LARGE}
                then pg_catalog.to_jsonb({row}) else {}({row}) end",
            self.ours("threadline_large_image")
        )
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
        self.columns_that(|column| {
            format!(
                "not ({after} operator(pg_catalog.->) {column} operator(pg_catalog.=) \
                 ({before} operator(pg_catalog.->) {column}))"
            )
        })
    }

    /// Values of these columns before the update; `shown` is what of the image may be stored.
    fn was(&self, fields: &str, shown: &str) -> String {
        let others = match self.ignored() {
            ignored if ignored.is_empty() => String::new(),
            ignored => format!(" operator(pg_catalog.-) {}", array(&ignored)),
        };
        let same = self.columns_that(|column| format!("not {column} operator(pg_catalog.=) any ({fields})"));
        format!("({shown}){others} operator(pg_catalog.-) {same}")
    }

    /// Those of the columns that count of which a condition is true.
    fn columns_that(&self, condition: impl Fn(&str) -> String) -> String {
        let case = |column: &String| {
            let column = literal(column);
            format!("case when {} then {column} end", condition(&column))
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

    fn later_was(fields: &str, shown: &str) -> String {
        format!(
            "(select pg_catalog.jsonb_object_agg(f.name, ({shown}) operator(pg_catalog.->) f.name)
                from pg_catalog.unnest({fields}) f (name))"
        )
    }

    /// The insert of an update's change, of the plpgsql variables `before` and `after`; leaves when nothing counts.
    fn record_update(&self, nulls: &str) -> String {
        let (schema, table, partition) = self.filed_under();
        let (known, fields, later_fields) =
            (self.is_known("after"), self.fields("before", "after"), self.later_fields("before", "after"));
        let was = if self.policy.store_changed_from {
            format!(
                "
        shown := {};
        if known then
            was := {};
        else
            was := {};
        end if;",
                self.redact("before"),
                self.was("fields", "shown"),
                Self::later_was("fields", "shown")
            )
        } else {
            String::new()
        };
        let shown_after = self.redact("after");
        let (key, key_before) = (self.key_of("after"), self.key_before("fields", "before"));
        let (changes, id, transaction) = (self.ours("audit_changes"), self.new_id(), self.transaction_id());
        let touch = self.touch();
        format!(
            "        if after operator(pg_catalog.=) before then
            perform {touch}();
            exit capture;
        end if;
        known := {known};
        if known then
            fields := {fields};
        else
            fields := {later_fields};
        end if;
        if pg_catalog.cardinality(fields) operator(pg_catalog.=) 0 then
            perform {touch}();
            exit capture;
        end if;{was}
        insert into {changes} (id, transaction_id, table_schema, table_name, partition, table_pk, key_before, op, data_after, json_nulls,
            changed_fields, changed_from, captured_at)
        values ({id}, {transaction}, {schema}, {table}, {partition},
            {key},
            {key_before},
            'update',
            {shown_after},
            {nulls},
            fields, was, pg_catalog.clock_timestamp());"
        )
    }

    /// The id of a change.
    fn new_id(&self) -> String {
        format!("{}()", self.ours("threadline_new_id"))
    }

    /// For updates that change nothing.
    fn touch(&self) -> String {
        self.ours("threadline_touch_transaction")
    }

    /// The captured transaction, made when there is none.
    fn transaction_id(&self) -> String {
        if self.policy.strict {
            let (schema, table, _) = self.filed_under();
            return format!("{}({schema}, {table})", self.ours("threadline_transaction_id_of_actor"));
        }
        format!("{}()", self.ours("threadline_transaction_id"))
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
