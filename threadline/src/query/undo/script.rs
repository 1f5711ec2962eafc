//! The SQL of a plan. Names and values are quoted, and a comment is one line whatever it shows.

use std::fmt::Write as _;

use super::{
    Refused, Step, StepKind, UndoPlan,
    current::{RENDERING, alias, table},
    draft::{Action, Draft, Field},
    value::Value,
};
use crate::{
    capture::names::{literal, quote},
    query::canonical,
};

/// Shows a value as triggers store it, whatever the session is set to.
const CAPTURED: &str = "pg_temp.threadline_captured";

pub(super) fn step(draft: &Draft<'_>) -> Step {
    let (kind, sql) = match &draft.action {
        Action::Update(fields) => (StepKind::Update, update(draft, fields)),
        Action::Insert(fields) => (StepKind::Insert, insert(draft, fields)),
        Action::Delete { without, image } => (StepKind::Delete, delete(draft, without, image.get())),
    };
    Step {
        changes: draft.changes.clone(),
        table: draft.target.name.to_string(),
        key: draft.key.clone(),
        kind,
        fields: draft.fields().iter().map(|field| field.name.clone()).collect(),
        notes: draft.notes.clone(),
        sql,
    }
}

fn update(draft: &Draft<'_>, fields: &[Field]) -> String {
    let (row, made) = (alias(draft.target, "this_row"), alias(draft.target, "made_row"));
    let conditions: Vec<String> = fields.iter().map(|field| is_now(&row, field)).collect();
    format!(
        "update {} as {row}\nset ({}) = (\n    select {}\n    from pg_catalog.jsonb_populate_record({row}, {}::pg_catalog.jsonb) \
         as {made})\nwhere {}\n  and {}",
        table(draft.target),
        names(fields),
        values(&made, fields),
        literal(&draft.document()),
        has_key(draft, &row),
        conditions.join("\n  and "),
    )
}

fn insert(draft: &Draft<'_>, fields: &[Field]) -> String {
    let made = alias(draft.target, "made_row");
    let is_identity =
        |field: &Field| draft.target.columns.get(&field.name).is_some_and(|column| column.is_identity);
    let overriding = if fields.iter().any(is_identity) { "overriding system value\n" } else { "" };
    let name = draft.target.name.quoted();
    format!(
        "insert into {name} ({})\n{overriding}select {}\nfrom pg_catalog.jsonb_populate_record(null::{name}, {}::pg_catalog.jsonb) as {made}",
        names(fields),
        values(&made, fields),
        literal(&draft.document()),
    )
}

fn delete(draft: &Draft<'_>, without: &[String], image: &str) -> String {
    let row = alias(draft.target, "this_row");
    let shown = if without.is_empty() {
        format!("{CAPTURED}({row})")
    } else {
        let without: Vec<String> = without.iter().map(|name| literal(name)).collect();
        format!("{CAPTURED}({row}) operator(pg_catalog.-) array[{}]::pg_catalog.text[]", without.join(", "))
    };
    format!(
        "delete from {} as {row}\nwhere {}\n  and {shown} operator(pg_catalog.=) {}::pg_catalog.jsonb",
        table(draft.target),
        has_key(draft, &row),
        literal(image),
    )
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| quote(&field.name)).collect::<Vec<_>>().join(", ")
}

fn values(made: &str, fields: &[Field]) -> String {
    let value = |field: &Field| match field.value {
        Value::JsonNull => "'null'::pg_catalog.jsonb".to_owned(),
        _ => format!("{made}.{}", quote(&field.name)),
    };
    fields.iter().map(value).collect::<Vec<_>>().join(", ")
}

/// The texts of a key are read as the types of its columns, as when the row was found.
fn has_key(draft: &Draft<'_>, row: &str) -> String {
    let key = canonical::members(&draft.key);
    let equal = |(name, text): (&String, &crate::query::Json)| {
        let text: String = serde_json::from_str(text.get()).unwrap_or_else(|_| text.get().to_owned());
        let type_name = draft.target.columns.get(name).map_or("text", |column| &column.type_name);
        format!("{row}.{} = {}::{type_name}", quote(name), literal(&text))
    };
    key.iter().map(equal).collect::<Vec<_>>().join("\n  and ")
}

fn is_now(row: &str, field: &Field) -> String {
    let shown = format!("{CAPTURED}({row}.{})", quote(&field.name));
    match &field.now {
        Value::SqlNull => format!("{shown} is null"),
        Value::JsonNull => format!("{shown} operator(pg_catalog.=) 'null'::pg_catalog.jsonb"),
        Value::Document(document) => {
            format!("{shown} operator(pg_catalog.=) {}::pg_catalog.jsonb", literal(document.get()))
        }
    }
}

impl UndoPlan {
    /// A script for people to review and to run. All of it fails where one statement would not touch exactly its one row; as it is
    /// written, it is rolled back at its end. It shows values of rows.
    #[must_use]
    pub fn to_sql(&self) -> String {
        let mut script = String::from("begin;\nset local client_encoding = 'UTF8';\n");
        let count = self.statements.len();
        let _ = writeln!(
            script,
            "-- Rows that are set back: {count}. Refused, and left as they are: {}.",
            self.refused.len()
        );
        for refused in &self.refused {
            script.push_str(&comment(&describe_refused(refused)));
        }
        if count > 0 {
            script.push_str(&captured());
            let body = self.body();
            let tag = tag(&body);
            let _ = writeln!(script, "do {tag}{body}{tag};");
        }
        script.push_str("rollback; -- replace by commit once reviewed\n");
        script
    }

    fn body(&self) -> String {
        let mut body =
            String::from("\n#variable_conflict use_column\ndeclare\n    touched pg_catalog.int8;\nbegin\n");
        for (number, step) in self.statements.iter().enumerate() {
            let number = number + 1;
            body.push_str(&comment(&format!("{number}. {}", describe(step))));
            for note in &step.notes {
                body.push_str(&comment(note));
            }
            let _ = write!(
                body,
                "{};\nget diagnostics touched = row_count;\nif touched operator(pg_catalog.<>) 1 then\n    \
                 raise exception 'statement {number} touches % rows instead of one', touched\n        \
                 using hint = 'The row is not what it was when this was planned. Plan again.';\nend if;\n",
                step.sql
            );
        }
        body.push_str("end\n");
        body
    }
}

/// The function that guards call. It is the session's own, and goes with it.
fn captured() -> String {
    let settings = RENDERING.map(|(name, value)| format!("set {name} = {}", setting(value))).join(" ");
    format!(
        "-- Shows a value as it was captured, whatever this session is set to.\n\
         create or replace function {CAPTURED}(value anyelement) returns pg_catalog.jsonb\n\
         language sql stable {settings}\nas 'select pg_catalog.to_jsonb($1)';\n"
    )
}

/// A list is not quoted as a whole.
fn setting(value: &str) -> String {
    value.split(", ").map(literal).collect::<Vec<_>>().join(", ")
}

fn describe(step: &Step) -> String {
    let (what, changes) =
        (step.table.as_str(), step.changes.iter().map(ToString::to_string).collect::<Vec<_>>());
    let key = step.key.get();
    let fields = step.fields.join(", ");
    let done = match step.kind {
        StepKind::Update => format!("sets back {fields} of {what} {key}"),
        StepKind::Insert => format!("inserts {what} {key} again"),
        StepKind::Delete => format!("deletes {what} {key}"),
    };
    format!("{done}; undoes {}", changes.join(", "))
}

fn describe_refused(refused: &Refused) -> String {
    let field = refused.field.as_ref().map(|field| format!(", {field}")).unwrap_or_default();
    let mut text = format!(
        "Refused: {} {}{field}: {}: {}",
        refused.table,
        refused.key.get(),
        refused.term,
        refused.reason
    );
    for (what, value) in [("it wrote", &refused.wrote), ("there is", &refused.now)] {
        if let Some(value) = value {
            let _ = write!(text, "; {what} {}", value.get());
        }
    }
    text
}

/// One line, whatever the text holds.
fn comment(text: &str) -> String {
    // What breaks a line, or shows it in another order than it has.
    let is_plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let line: String = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect();
    format!("-- {line}\n")
}

/// A quote that the text does not have.
fn tag(body: &str) -> String {
    let mut number = 0_u32;
    loop {
        let tag = if number == 0 { "$undo$".to_owned() } else { format!("$undo{number}$") };
        if !body.contains(&tag) {
            return tag;
        }
        number += 1;
    }
}
