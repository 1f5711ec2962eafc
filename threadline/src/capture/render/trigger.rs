//! The triggers of a table. A rerun leaves those that were disabled, or set to fire always, as they are.

use super::{
    Capture, HostTable, Level, array, literal, quote,
    statement::{NEW_ROWS, OLD_ROWS},
};
use crate::capture::names::{FunctionPrefix, TriggerPrefix};

/// Makes the triggers of the capture's level in place of all others that capture the table.
pub(in crate::capture) fn triggers(capture: &Capture) -> String {
    let name = capture.name();
    let mut made: Vec<(TriggerPrefix, String)> = Vec::new();
    let arguments: Vec<String> = capture.key.iter().map(|column| literal(column)).collect();
    let arguments = arguments.join(", ");
    let changes = capture.ours(&name.function(FunctionPrefix::Changes));
    let on = |prefix, events: &str, tables: &str, function: &str| {
        let trigger = quote(&name.trigger(prefix));
        let statement = format!(
            "create or replace trigger {trigger} after {events} on {}{tables}\n        for each statement execute function {function};",
            name.quoted()
        );
        (prefix, statement)
    };
    match capture.level {
        Level::Row => made.push((TriggerPrefix::Audit, row_trigger(capture))),
        Level::Statement => {
            let updates = capture.ours(&name.function(FunctionPrefix::Updates));
            let deletes = capture.ours(&name.function(FunctionPrefix::Deletes));
            let (old, new) = (format!(" old table as {OLD_ROWS}"), format!(" new table as {NEW_ROWS}"));
            made.push(on(
                TriggerPrefix::Audit,
                "insert",
                &format!(" referencing{new}"),
                &format!("{changes}({arguments})"),
            ));
            made.push(on(
                TriggerPrefix::Update,
                "update",
                &format!(" referencing{old}{new}"),
                &format!("{updates}()"),
            ));
            made.push(on(
                TriggerPrefix::Delete,
                "delete",
                &format!(" referencing{old}"),
                &format!("{deletes}()"),
            ));
        }
    }
    let truncate = quote(&name.trigger(TriggerPrefix::Truncate));
    let emptied = capture.ours("threadline_capture_truncate");
    let mut names: Vec<String> = made.iter().map(|(prefix, _)| name.trigger(*prefix)).collect();
    names.push(name.trigger(TriggerPrefix::Truncate));
    let mut statements: Vec<String> = made.into_iter().map(|(_, statement)| statement).collect();
    let of_truncate = |table: &HostTable, arguments: &[String]| {
        let arguments = arguments.join(", ");
        format!(
            "create or replace trigger {truncate} after truncate on {}\n        for each statement execute function \
             {emptied}({arguments});",
            table.quoted()
        )
    };
    let strict: &[String] = if capture.policy.strict { &["'strict'".to_owned()] } else { &[] };
    statements.push(of_truncate(name, strict));
    for leaf in &capture.table.leaves {
        let parent = [literal(&name.schema), literal(&name.name)];
        statements.push(of_truncate(leaf, &[&parent[..], strict].concat()));
    }
    in_place(capture, &names, &statements)
}

/// The one trigger that the Elixir library's takes the place of, for each row and under its name.
pub(in crate::capture) fn row_trigger(capture: &Capture) -> String {
    let name = capture.name();
    let arguments: Vec<String> = capture.key.iter().map(|column| literal(column)).collect();
    format!(
        "create or replace trigger {} after insert or update or delete on {}\n        for each row execute function {}({});",
        quote(&name.trigger(TriggerPrefix::Audit)),
        name.quoted(),
        capture.ours(&name.function(FunctionPrefix::Changes)),
        arguments.join(", ")
    )
}

/// Its name.
pub(in crate::capture) fn row_trigger_name(capture: &Capture) -> String {
    capture.name().trigger(TriggerPrefix::Audit)
}

/// Makes triggers of these names by `statements`, and drops every other one that captures the table, which would record changes a
/// second time: of the other level, of the table's earlier name, of a partition alone. What was disabled or set to fire always
/// stays so, and a table whose capture is off stays off.
///
/// Triggers are dropped first: that takes the strongest lock, and a weaker one that is made stronger can deadlock with a reader. Their
/// functions are dropped last, as far as no trigger calls them by then: the migration may have made one of them again.
pub(in crate::capture) fn in_place(capture: &Capture, names: &[String], statements: &[String]) -> String {
    let name = capture.name();
    let made = array(names);
    let captures = |function: &str| {
        format!(
            "t.tgfoid in (select f.oid from pg_catalog.pg_proc f join pg_catalog.pg_namespace s on s.oid = f.pronamespace
                          where s.nspname = {} and f.proname ~ '{function}')",
            literal(capture.storage.as_str())
        )
    };
    format!(
        "do $threadline$
declare
    firing text[] := array(
        select pg_catalog.format('alter table only %s %s trigger %I', t.tgrelid::pg_catalog.regclass,
                   case t.tgenabled when 'A' then 'enable always' when 'R' then 'enable replica' else 'disable' end, t.tgname)
        from pg_catalog.pg_trigger t
        where {is_on} and t.tgenabled <> 'O' and t.tgname = any ({made})
        union
        select pg_catalog.format('alter table only %s disable trigger %I', t.tgrelid::pg_catalog.regclass, n.name)
        from pg_catalog.pg_trigger t
        join pg_catalog.pg_class c on c.oid = t.tgrelid and (c.relkind <> 'p' or c.oid = {table}::pg_catalog.regclass)
        cross join pg_catalog.unnest({made}) n (name)
        where {is_on} and t.tgenabled = 'D' and {by_main}
          and not exists (select from pg_catalog.pg_trigger o where o.tgrelid = t.tgrelid and o.tgname = n.name));
    other    record;
    one      text;
    replaced pg_catalog.regprocedure[] := '{{}}';
begin
    for other in
        select t.tgname, t.tgrelid::pg_catalog.regclass as relation, t.tgfoid::pg_catalog.regprocedure as function,
               f.proname ~ '^threadline_capture_(changes|updates|deletes)_' as is_of_table
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
        where {is_on} and t.tgparentid = 0 and {by_any} and not t.tgname = any ({made})
    loop
        execute pg_catalog.format('drop trigger %I on %s', other.tgname, other.relation);
        if other.is_of_table then
            replaced := replaced || other.function;
        end if;
    end loop;
    {statements}
    foreach one in array firing loop
        execute one;
    end loop;
    for one in
        select distinct r.function::text from pg_catalog.unnest(replaced) r (function)
        where not exists (select from pg_catalog.pg_trigger t where t.tgfoid = r.function)
    loop
        execute pg_catalog.format('drop function %s', one);
    end loop;
end
$threadline$;
",
        is_on = is_on(name),
        table = literal(&name.quoted()),
        by_main = captures("^threadline_capture_changes"),
        by_any = captures("^threadline_capture_(changes|updates|deletes|truncate)"),
        statements = statements.join("\n    "),
    )
}

/// Drops everything that [`triggers`] and the capture's functions make, as far as nothing else uses it.
pub(in crate::capture) fn drop_all(capture: &Capture) -> String {
    let name = capture.name();
    let mut statements: Vec<String> =
        TriggerPrefix::ALL.iter().map(|prefix| drop_trigger(name, *prefix)).collect();
    let truncate = quote(&name.trigger(TriggerPrefix::Truncate));
    statements.extend(
        capture
            .table
            .leaves
            .iter()
            .map(|leaf| format!("drop trigger if exists {truncate} on {};", leaf.quoted())),
    );
    format!("{}\n{}", statements.join("\n"), drop_functions(capture, &FunctionPrefix::ALL))
}

fn drop_trigger(name: &HostTable, prefix: TriggerPrefix) -> String {
    format!("drop trigger if exists {} on {};", quote(&name.trigger(prefix)), name.quoted())
}

/// Functions that a trigger still uses stay, with a notice.
pub(in crate::capture) fn drop_functions(capture: &Capture, prefixes: &[FunctionPrefix]) -> String {
    let names: Vec<String> =
        prefixes.iter().map(|prefix| literal(&capture.name().function(*prefix))).collect();
    format!(
        "do $threadline$
declare
    one   pg_catalog.regprocedure;
    users text;
begin
    for one in
        select p.oid from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where n.nspname = {} and p.pronargs = 0 and p.proname in ({})
    loop
        select pg_catalog.string_agg(t.tgrelid::pg_catalog.regclass::text, ', ') into users
        from pg_catalog.pg_trigger t where t.tgfoid = one;
        if users is null then
            execute pg_catalog.format('drop function %s', one);
        else
            raise warning 'threadline: % stays, triggers of % use it', one, users;
        end if;
    end loop;
end
$threadline$;",
        literal(capture.storage.as_str()),
        names.join(", ")
    )
}

/// A condition on a trigger `t`: it is on the table or on a partition of it.
pub(in crate::capture) fn is_on(name: &HostTable) -> String {
    let table = format!("{}::pg_catalog.regclass", literal(&name.quoted()));
    format!(
        "(t.tgrelid = {table} or t.tgrelid in (select p.relid from pg_catalog.pg_partition_tree({table}) p))"
    )
}

/// Refuses to continue where the table is not what was read.
pub(in crate::capture) fn guard(capture: &Capture) -> String {
    let name = capture.name();
    let redacted = capture.policy.redacted();
    let columns: Vec<String> = redacted.iter().chain(&capture.key).map(|column| literal(column)).collect();
    format!(
        "do $threadline$
declare
    problem text;
begin
    if pg_catalog.to_regclass({quoted}) is null then
        raise exception 'threadline: the table {name} does not exist';
    end if;
    if pg_catalog.to_regprocedure({newest}) is null then
        raise exception 'threadline: the functions that capture calls are not there'
            using hint = 'run threadline install';
    end if;
    select pg_catalog.string_agg(w.name, ', ') into problem from pg_catalog.unnest(array[{}]::text[]) w (name)
    where not exists (select from pg_catalog.pg_attribute a
                      where a.attrelid = {quoted}::pg_catalog.regclass and a.attname = w.name and a.attnum > 0
                        and not a.attisdropped);
    if problem is not null then
        raise exception 'threadline: {name} has no column %, which its policy or its key names', problem
            using hint = 'run threadline gen-triggers on a database that has the same tables';
    end if;
end
$threadline$;",
        columns.join(", "),
        newest = literal(&format!("{}()", capture.touch())),
        quoted = literal(&name.quoted()),
    )
}

/// Refuses to continue where a function that is to be written again serves a table that the migration does not capture.
pub(in crate::capture) fn guard_functions(captures: &[Capture]) -> String {
    let Some(first) = captures.first() else { return String::new() };
    let list = |of: fn(&HostTable) -> String| -> Vec<String> {
        captures.iter().map(|capture| of(capture.name())).collect()
    };
    let functions: Vec<String> = captures
        .iter()
        .flat_map(|capture| {
            let name = literal(&capture.name().to_string());
            capture.functions().into_iter().map(move |one| format!("({name}, {})", literal(&one.name)))
        })
        .collect();
    format!(
        "
do $threadline$
declare
    captured pg_catalog.oid[] := array(
        select pg_catalog.to_regclass(w.name)::pg_catalog.oid from pg_catalog.unnest({tables}) w (name)
        union all
        select p.relid::pg_catalog.oid
        from pg_catalog.unnest({tables}) w (name), pg_catalog.pg_partition_tree(pg_catalog.to_regclass(w.name)) p);
    one record;
begin
    for one in
        select w.name, pg_catalog.string_agg(distinct pg_catalog.concat(s.nspname, '.', c.relname), ',') as others
        from (values {functions}) w (name, function)
        join pg_catalog.pg_proc p on p.proname = w.function
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = {storage}
        join pg_catalog.pg_trigger t on t.tgfoid = p.oid
        join pg_catalog.pg_class c on c.oid = coalesce(pg_catalog.pg_partition_root(t.tgrelid), t.tgrelid)
        join pg_catalog.pg_namespace s on s.oid = c.relnamespace
        where t.tgrelid = any (captured) is not true
        group by w.name
    loop
        raise exception 'threadline: the function that is to capture % serves other tables: %', one.name, one.others
            using hint = pg_catalog.concat('generate all of them together, each under its policy: threadline gen-triggers --tables ',
                {names}, ',', one.others);
    end loop;
end
$threadline$;
",
        tables = array(&list(HostTable::quoted)),
        names = literal(&list(HostTable::to_string).join(",")),
        functions = functions.join(", "),
        storage = literal(first.storage.as_str()),
    )
}
