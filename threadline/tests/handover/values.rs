//! How values are written, by the tables of what the Elixir library writes.

use serde_json::Value;
use sqlx::Executor as _;
use threadline::export::{Format, Profile};

use super::{Read, exported, options};

const JSON_VALUES: &str = include_str!("library/json_values.json");
const CSV_CELLS: &str = include_str!("library/csv_cells.json");

/// A timeline of one change whose image is a document.
async fn of(read: &mut Read, document: &str) -> anyhow::Result<()> {
    read.connection.execute("truncate audit_changes, audit_transactions cascade").await?;
    sqlx::query(
        "with t as (insert into audit_transactions (txid) values (1) returning id)
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select id, 'public', 'values', '{}', 'insert', $1::jsonb from t",
    )
    .bind(document)
    .execute(&mut read.connection)
    .await?;
    Ok(())
}

/// The image as it is exported.
async fn image(read: &Read, profile: Profile) -> anyhow::Result<String> {
    let (text, _) = exported(&read.reader(), "kind:change", options(profile, Format::Ndjson)).await?;
    let (_, behind) = text.split_once(r#""data_after":"#).unwrap();
    let end = if profile == Profile::Full { r#","data_before":"# } else { r#","id":"# };
    Ok(behind.split_once(end).unwrap().0.to_owned())
}

#[tokio::test]
async fn numbers_are_the_librarys_floats_in_compatible_exports_and_have_every_digit_in_others()
-> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    let table: Value = serde_json::from_str(JSON_VALUES)?;
    let numbers = table["numbers"].as_array().unwrap();
    let texts =
        |field: &str| numbers.iter().map(|number| number[field].as_str().unwrap()).collect::<Vec<_>>();
    of(&mut read, &format!("[{}]", texts("input").join(","))).await?;
    assert_eq!(image(&read, Profile::Compat).await?, format!("[{}]", texts("exported").join(",")));
    for profile in [Profile::Exact, Profile::Full] {
        assert_eq!(image(&read, profile).await?, format!("[{}]", texts("postgres_text").join(",")));
    }
    assert!(numbers.len() > 30, "{}", numbers.len());
    Ok(())
}

#[tokio::test]
async fn names_are_in_the_order_of_their_bytes_however_many_there_are() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    let table: Value = serde_json::from_str(JSON_VALUES)?;
    let order = table["key_order"].as_str().unwrap();
    of(&mut read, order).await?;
    assert_eq!(image(&read, Profile::Compat).await?, order);
    for objects in table["object_order"].as_array().unwrap() {
        let written = objects["exported"].as_str().unwrap();
        of(&mut read, written).await?;
        let exported = image(&read, Profile::Compat).await?;
        let members: serde_json::Map<String, Value> = serde_json::from_str(written)?;
        // The library's are in no order from 33 on; a map of this build is.
        assert_eq!(exported, Value::Object(members).to_string());
        assert_eq!(exported == written, objects["sorted?"].as_bool().unwrap(), "{written}");
    }
    Ok(())
}

#[tokio::test]
async fn strings_are_escaped_as_the_library_escapes_them_in_images_and_names() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    let table: Value = serde_json::from_str(JSON_VALUES)?;
    for string in table["strings"].as_array().unwrap() {
        let text: String = string["input_codepoints"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|point| char::from_u32(u32::try_from(point.as_u64()?).ok()?))
            .collect();
        of(&mut read, &serde_json::to_string(&text)?).await?;
        sqlx::query("update audit_changes set table_name = $1")
            .bind(&text)
            .execute(&mut read.connection)
            .await?;
        let expected = string["exported"].as_str().unwrap();
        for profile in [Profile::Compat, Profile::Exact] {
            assert_eq!(image(&read, profile).await?, expected);
            let (text, _) = exported(&read.reader(), "", options(profile, Format::Ndjson)).await?;
            assert!(text.contains(&format!(r#""table_name":{expected},"#)), "{text}");
        }
        // As a cell, the name is what the library makes of the text.
        let (csv, _) = exported(&read.reader(), "", options(Profile::Compat, Format::Csv)).await?;
        let cell = string["csv"].as_str().unwrap().strip_suffix(",z\r\n").unwrap();
        assert!(csv.contains(&format!(",public,{cell},insert,")), "{csv}");
    }
    Ok(())
}

#[tokio::test]
async fn cells_are_quoted_as_the_library_quotes_them() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    let table: Value = serde_json::from_str(CSV_CELLS)?;
    of(&mut read, "{}").await?;
    for cell in table.as_array().unwrap() {
        let text = cell["cell"].as_str().unwrap();
        sqlx::query("update audit_changes set table_name = $1")
            .bind(text)
            .execute(&mut read.connection)
            .await?;
        let (csv, _) = exported(&read.reader(), "", options(Profile::Compat, Format::Csv)).await?;
        let expected = cell["csv"].as_str().unwrap().strip_suffix("\r\n").unwrap();
        assert!(csv.contains(&format!(",public,{expected},insert,")), "{csv}");
    }
    Ok(())
}

/// Nobody but a hand writes these.
#[tokio::test]
async fn names_that_are_null_or_nested_are_exported_as_they_are_stored() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    of(&mut read, "{}").await?;
    for (stored, written) in [
        ("{a,NULL}", r#"["a",null]"#),
        ("{{a,b},{c,NULL}}", r#"[["a","b"],["c",null]]"#),
        ("[0:1]={a,b}", r#"["a","b"]"#),
    ] {
        sqlx::query("update audit_changes set op = 'update', changed_fields = $1::text::text[], json_nulls = $1::text::text[]")
            .bind(stored)
            .execute(&mut read.connection)
            .await?;
        for (profile, format) in [
            (Profile::Compat, Format::Ndjson),
            (Profile::Exact, Format::Json),
            (Profile::Full, Format::Ndjson),
            (Profile::Full, Format::Csv),
            (Profile::Full, Format::Ocsf),
        ] {
            let (text, _) = exported(&read.reader(), "changed:a", options(profile, format)).await?;
            let written =
                if format == Format::Csv { written.replace('"', "\"\"") } else { written.to_owned() };
            assert!(text.contains(&written), "{stored} as {profile:?} in {format:?}: {text}");
        }
    }
    Ok(())
}
