//! Parquet as `DuckDB` reads it, value by value beside the same entries as NDJSON; and what is different of it: parts, memory, going on.

use std::{fs, process::Command};

use serde_json::{Value, json};
use threadline::export::{Destination, ExportError, Format, Options, Profile, Request, export};

use super::{Read, folder, memory, options, readers::reader, threadline};

/// What is null, empty, huge, or acts somewhere; each op and kind; more rows than a group has, and texts of a megabyte.
const HOSTILE: &str = r#"
    insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at) values
      ('a0000000-0000-4000-8000-000000000001', '', '{"type": "user", "id": "", "n": 12345678901234567890.1234567890}', 'ok', '', '', '', '', '', '', '', '-infinity'),
      ('a0000000-0000-4000-8000-000000000002', E'\u2028"\\,\r\n\t\x01''ü😀', '[]', 'error', null, null, null, repeat('ä', 500000), null, null, null, 'infinity'),
      ('e0000000-0000-4000-8000-000000000003', 'auth.login', '{"type": "anonymous"}', 'error', null, null, null, null, 'e0000000-0000-4000-8000-000000000003', null, null, '1969-12-31 23:59:59.999999Z');
    insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, meta, context, action_id) values
      ('b0000000-0000-4000-8000-000000000001', 9223372036854775807, 'infinity', '{"id": ""}', '', '', '', '', '{"": 1e400, "a": [1.0, {}]}', '{}', 'a0000000-0000-4000-8000-000000000001'),
      ('b0000000-0000-4000-8000-000000000002', 2, '2026-05-15 12:00:03Z', null, null, null, null, null, null, null, null);
    insert into audit_changes (transaction_id, table_schema, table_name, partition, table_pk, key_before, op, data_after, data_before, changed_fields, changed_from, json_nulls, captured_at, position)
    select t, s, s, s, pk, nullif(pk, '{}'), op, image, image, fields, image, fields, at, 9223372036854775807 - row_number() over ()
    from unnest(array['b0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000002']::uuid[]) t,
         unnest(array['', E'a "b",\r\n']) s, unnest(array['{}', '{"id": "7", "": ""}']::jsonb[]) pk,
         unnest(array['insert', 'update', 'delete', 'truncate']) op,
         unnest(array[null, 'null', '"\u001f"', '-0.000000000000000000000000000000000000001', '{"b": [[], {}, ""], "a": 340282366920938463463374607431768211456}']::jsonb[]) image,
         (values (null::text[]), ('{}'), ('{""}'), (array['a', 'b,"', ''])) f (fields),
         unnest(array['-infinity', '2026-05-15 12:00:01.123456Z']::timestamptz[]) at;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select 'b0000000-0000-4000-8000-000000000002', 'public', 'small', '{}', 'insert', to_jsonb(n), timestamptz '2026-03-02Z' + n * interval '1 second' from generate_series(1, 20000) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select 'b0000000-0000-4000-8000-000000000002', 'public', 'large', '{}', 'insert',
           jsonb_build_object('text', (select string_agg(md5((n * 40000 + m)::text), '') from generate_series(1, 32768) m)), timestamptz '2026-03-01Z'
    from generate_series(1, 40) n;
    update audit_changes set erased = '{"columns": {"data_after": {"keys": ["b", "a\""]}, "table_pk": {}}}' where op = 'update' and partition = ''"#;

/// Compares both files, and prints the types of the columns and how many values of each there are.
const COMPARE: &str = r#"import datetime, decimal, duckdb, json, sys
duck = duckdb.connect()
# Which it draws on standard output.
duck.execute('set enable_progress_bar = false')
table = f"read_parquet('{sys.argv[1]}', file_row_number = true)"
types = {name: kind for name, kind, *_ in duck.execute(f"describe select * exclude (file_row_number) from {table}").fetchall()}
read = {'TIMESTAMP WITH TIME ZONE': 'epoch_us({})', 'JSON': '{}::varchar'}
columns = ', '.join(read.get(kind, '{}').format(f'"{name}"') for name, kind in types.items())
rows = duck.execute(f"select {columns} from {table} order by file_row_number")
def exact(text): return json.loads(text, parse_float=decimal.Decimal, object_pairs_hook=lambda pairs: pairs)
def value(kind, entry):
    if entry is None: return None
    if kind.startswith('TIMESTAMP'):
        at = datetime.datetime.strptime(entry, '%Y-%m-%dT%H:%M:%S.%fZ') - datetime.datetime(1970, 1, 1)
        return at // datetime.timedelta(microseconds=1)
    return entry
counts, lines = dict.fromkeys(types, 0), 0
for line in open(sys.argv[2], encoding='utf-8'):
    entry, row = dict(exact(line)), dict(zip(types, rows.fetchone()))
    lines += 1
    is_change = entry['kind'] == 'change'
    transaction = dict(entry['transaction'] or [])
    action = dict(entry['action'] or []) if is_change else entry
    names = {'transaction_actor': 'actor_ref', **{f'transaction_{name}_id': f'{name}_id' for name in ['correlation', 'request', 'job']}}
    for name, kind in types.items():
        if name in ('kind', 'id'): expected = entry[name]
        elif name == 'at': expected = entry['captured_at' if is_change else 'inserted_at']
        elif name == 'transaction_id': expected = entry['transaction_id'] if is_change else transaction.get('id')
        elif name in ('txid', 'occurred_at', 'source', 'meta', 'context'): expected = transaction.get(name)
        elif name in names: expected = transaction.get(names[name])
        elif name.startswith('action_'): expected = action.get({'action_actor': 'actor_ref'}.get(name, name.removeprefix('action_')))
        elif name == 'erased': expected = entry.get(name)
        else: expected = entry[name] if is_change else None
        found = row[name]
        if kind == 'JSON':
            # A document that is JSON's null is null in the entry too.
            found = exact(found) if found is not None else None
        assert found == value(kind, expected), (name, line[:300], repr(found)[:300])
        counts[name] += found is not None
assert rows.fetchone() is None
print(json.dumps({'rows': lines, 'types': types, 'counts': counts}))
"#;

fn full(format: Format) -> Options {
    options(Profile::Full, format)
}

async fn to_file(read: &Read, path: &std::path::Path, options: Options) -> Result<Value, ExportError> {
    let request = Request { is_recorded: false, ..Request::new("".parse()?, options) };
    let done = export(&read.reader(), request, Destination::file(path)).await?;
    Ok(json!(done.manifest))
}

#[tokio::test]
async fn duckdb_reads_in_each_column_what_stands_in_json() -> anyhow::Result<()> {
    let Some(packages) = reader("parquet")? else { return Ok(()) };
    let read = Read::after(HOSTILE).await?;
    let (_folder, path) = folder()?;
    let manifest = to_file(&read, &path.join("a.parquet"), full(Format::Parquet)).await?;
    to_file(&read, &path.join("a.ndjson"), full(Format::Ndjson)).await?;
    let mut compare = Command::new("python3");
    compare.args(["-c", COMPARE, "a.parquet", "a.ndjson"]).current_dir(&path).env("PYTHONPATH", packages);
    let compared = compare.output()?;
    anyhow::ensure!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let said: Value = serde_json::from_slice(&compared.stdout)?;
    assert_eq!(said["rows"], 21_323);
    for (name, kind) in [
        ("kind", "VARCHAR"),
        ("at", "TIMESTAMP WITH TIME ZONE"),
        ("data_after", "JSON"),
        ("changed_fields", "VARCHAR[]"),
        ("erased", "VARCHAR[]"),
        ("position", "BIGINT"),
        ("txid", "BIGINT"),
        ("action_inserted_at", "TIMESTAMP WITH TIME ZONE"),
    ] {
        assert_eq!(said["types"][name], kind, "{name}");
    }
    let columns = manifest["columns"].as_array().unwrap();
    assert_eq!(said["types"].as_object().unwrap().len(), columns.len());
    for column in columns {
        assert!(said["counts"][column.as_str().unwrap()].as_u64() > Some(0), "{column} was never there");
    }
    Ok(())
}

#[tokio::test]
async fn parts_hold_whole_groups_of_rows_and_verify_reads_the_footer() -> anyhow::Result<()> {
    let read = Read::after(HOSTILE).await?;
    let (_folder, path) = folder()?;
    let file = path.join("a.parquet");
    let manifest = to_file(&read, &file, full(Format::Parquet)).await?;
    let parts = manifest["parts"].as_array().unwrap();
    assert!(
        parts.len() > 1
            && parts[..parts.len() - 1].iter().all(|part| part["rows"]["change"].as_u64() > Some(0)),
        "{parts:?}"
    );
    let verify = || threadline(&read.database, &path, &["export", "verify", "a.parquet.manifest.json"]);
    let ended = verify()?;
    assert!(ended.status == Some(0) && ended.out.starts_with("holds: 21,323 rows"), "{ended:?}");
    // Whoever changes the manifest alone is told by the footer.
    let written = path.join("a.parquet.manifest.json");
    let text = fs::read_to_string(&written)?;
    let mut changed: Value = serde_json::from_str(&text)?;
    changed["rows"]["action"] = json!(9);
    fs::write(&written, changed.to_string())?;
    let ended = verify()?;
    assert!(ended.status == Some(1) && ended.out.contains("rows: the file has 21323 entries"), "{ended:?}");
    fs::write(&written, &text)?;
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes)?;
    let ended = verify()?;
    assert!(
        ended.status == Some(1) && ended.out.contains("part: ") && ended.out.contains("digest: "),
        "{ended:?}"
    );
    fs::write(&file, &bytes[..bytes.len() - 1])?;
    assert!(verify()?.out.contains("rows: the file is no Parquet"));
    Ok(())
}

#[tokio::test]
async fn an_export_of_nothing_and_a_limited_one_are_files_too_and_a_stream_has_the_same_bytes()
-> anyhow::Result<()> {
    let read = Read::after(HOSTILE).await?;
    let (_folder, path) = folder()?;
    for (name, more, rows) in [
        ("none.parquet", &["actor:user:nobody"][..], "0 rows"),
        ("some.parquet", &["--max-rows", "7"], "7 rows"),
        ("all", &["--format", "parquet"], "21,323 rows"),
    ] {
        let arguments = [&["export", "run", "-o", name, "--unrecorded"], more].concat();
        let ended = threadline(&read.database, &path, &arguments)?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let verified =
            threadline(&read.database, &path, &["export", "verify", &format!("{name}.manifest.json")])?;
        assert!(verified.out.starts_with(&format!("holds: {rows}")), "{verified:?}");
    }
    let arguments = ["export", "run", "-o", "-", "--format", "parquet", "--unrecorded"];
    let streamed = super::command(&read.database, &path, &arguments).output()?;
    assert!(streamed.status.success() && streamed.stdout == fs::read(path.join("all"))?);
    Ok(())
}

#[tokio::test]
async fn what_was_stopped_is_not_gone_on_with_and_begins_again_with_force() -> anyhow::Result<()> {
    let read = Read::after(HOSTILE).await?;
    let (_folder, path) = folder()?;
    fs::write(path.join("a.parquet.partial"), b"PAR1")?;
    let run = |more: &[&str]| {
        threadline(
            &read.database,
            &path,
            &[&["export", "run", "-o", "a.parquet", "--unrecorded"], more].concat(),
        )
    };
    let ended = run(&[])?;
    assert!(ended.status == Some(2) && ended.error.contains("export_unfinished"), "{ended:?}");
    assert!(ended.error.contains("--force") && !ended.error.contains("--resume"), "{ended:?}");
    let ended = run(&["--resume"])?;
    assert!(ended.status == Some(2) && ended.error.contains("export_options"), "{ended:?}");
    assert!(ended.error.contains("--force"), "{ended:?}");
    let ended = run(&["--force"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""), "{ended:?}");
    let ended = run(&["--force", "--profile", "exact"])?;
    assert!(ended.status == Some(2) && ended.error.contains("export_options"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn groups_of_rows_need_bounded_memory() -> anyhow::Result<()> {
    for (sql, most) in [(memory::MANY, 64), (memory::LARGE, 80)] {
        let read = Read::after(sql).await?;
        let (_folder, path) = folder()?;
        let used = memory::most(&read, &path, &["export", "run", "-o", "full.parquet", "--unrecorded"])?;
        assert!((1_000..most << 10).contains(&used), "{used} KiB");
    }
    Ok(())
}
