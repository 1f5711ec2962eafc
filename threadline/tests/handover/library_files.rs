//! Exports of the Elixir library's own rows, beside the files that it made of them.

use std::{fs, path::PathBuf};

use sqlx::Executor as _;
use threadline::export::{Format, Options, Profile};

use super::{exported, library::library_database, options};

/// The library's exports, the same filters in our words, and rows at most.
const EXPORTS: [(&str, &str, Option<u64>); 6] = [
    ("all", "", None),
    ("actor_user", "actor:user:u-1", None),
    ("actor_anonymous", "actor:anonymous", None),
    ("corr", "correlation:corr-1", None),
    ("corr_none", "correlation:nope", None),
    ("max3", "", Some(3)),
];

/// Formats by the ends of the files' names, and whether CSV has the columns of the action.
const FORMATS: [(&str, Format, bool); 4] = [
    ("csv", Format::Csv, false),
    ("meta.csv", Format::Csv, true),
    ("json", Format::Json, false),
    ("ndjson", Format::Ndjson, false),
];

/// The library cannot read an actor that is a text: what it exported has none there. Ours is exported as it is.
const WITHOUT_TEXT: &str = "update audit_transactions set actor_ref = null where actor_ref = '\"text\"'";

fn file(name: &str) -> anyhow::Result<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/handover/library");
    Ok(fs::read_to_string(folder.join(name))?)
}

/// The export with the time of the library's.
fn at_its_time(text: &str, generated_at: &str) -> String {
    text.replace(generated_at, "2026-03-02T00:00:00.000000Z")
}

#[tokio::test]
async fn compatible_exports_are_the_elixir_librarys_byte_for_byte() -> anyhow::Result<()> {
    let mut read = library_database().await?;
    read.connection.execute(WITHOUT_TEXT).await?;
    for (name, filter, max_rows) in EXPORTS {
        for (end, format, action_metadata) in FORMATS {
            let options = Options { action_metadata, max_rows, ..options(Profile::Compat, format) };
            let (text, exported) = exported(&read.reader(), filter, options).await?;
            let expected = file(&format!("{name}.{end}"))?;
            assert_eq!(at_its_time(&text, &exported.manifest.generated_at), expected, "{name}.{end}");
            assert_eq!(exported.manifest.truncated, name == "max3", "{name}.{end}");
        }
    }
    Ok(())
}

/// Each place at which two texts differ, as the words around it up to the next comma or bracket.
fn differences(one: &str, other: &str) -> Vec<(String, String)> {
    let words = |text: &str| -> Vec<String> {
        text.split([',', '{', '}', '[', ']', '\n']).map(str::to_owned).collect()
    };
    let (one, other) = (words(one), words(other));
    assert_eq!(one.len(), other.len());
    let mut found: Vec<_> = one.into_iter().zip(other).filter(|(one, other)| one != other).collect();
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn exact_exports_differ_from_compatible_ones_in_the_digits_of_numbers_alone() -> anyhow::Result<()> {
    let mut read = library_database().await?;
    read.connection.execute(WITHOUT_TEXT).await?;
    let numbers = EXACT_NUMBERS.map(|(library, exact)| (library.to_owned(), exact.to_owned()));
    for (name, filter, max_rows) in EXPORTS {
        for (end, format, action_metadata) in FORMATS {
            let options = Options { action_metadata, max_rows, ..options(Profile::Exact, format) };
            let (text, exported) = exported(&read.reader(), filter, options).await?;
            let text = at_its_time(&text, &exported.manifest.generated_at).replace("\"\"", "\"");
            let library = file(&format!("{name}.{end}"))?.replace("\"\"", "\"");
            let found = differences(&library, &text);
            if name == "all" {
                assert_eq!(found, numbers, "{name}.{end}");
            } else {
                assert!(found.iter().all(|found| numbers.contains(found)), "{name}.{end}: {found:?}");
            }
        }
    }
    Ok(())
}

/// What the library writes of a member, and what is stored.
const EXACT_NUMBERS: [(&str, &str); 5] = [
    ("\"num\":1.23", "\"num\":1.2300"),
    ("\"price\":19.9", "\"price\":19.90"),
    ("\"total\":0.1", "\"total\":0.10"),
    ("\"total\":0.1", "\"total\":0.1000"),
    ("\"total\":1.2345678901234567e19", "\"total\":12345678901234567890.123456789"),
];

#[tokio::test]
async fn an_actor_that_the_library_cannot_read_is_exported_as_it_is_stored() -> anyhow::Result<()> {
    let read = library_database().await?;
    let (text, _) = exported(&read.reader(), "", options(Profile::Compat, Format::Ndjson)).await?;
    assert!(text.contains(r#""transaction":{"actor_ref":"text","#));
    Ok(())
}
