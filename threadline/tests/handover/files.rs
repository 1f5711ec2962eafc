//! Whole files of each profile and format, in every byte. `UPDATE_ANSWERS=1` writes them; the difference is to be read then.

use std::{fs, path::PathBuf};

use threadline::export::{Format, Options, Profile};

use super::{Read, exported, options};

/// Each kind of entry, each op, texts that act, formulas, and what is null.
const SAMPLE: &str = include_str!("sample.sql");

#[tokio::test]
async fn each_profile_and_format_is_written_as_it_is_kept() -> anyhow::Result<()> {
    let read = Read::after(SAMPLE).await?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/handover/answers");
    for profile in [Profile::Compat, Profile::Exact, Profile::Full] {
        for format in [Format::Csv, Format::Json, Format::Ndjson] {
            for spreadsheet_safe in [false, true] {
                if spreadsheet_safe && format != Format::Csv {
                    continue;
                }
                let with = Options { spreadsheet_safe, ..options(profile, format) };
                let (text, done) = exported(&read.reader(), "", with).await?;
                let text = text.replace(&done.manifest.generated_at, "GENERATED_AT");
                let safe = if spreadsheet_safe { ".safe" } else { "" };
                let path = folder.join(format!("{profile}{safe}.{format}"));
                if std::env::var_os("UPDATE_ANSWERS").is_some() {
                    fs::write(&path, &text)?;
                }
                assert_eq!(text, fs::read_to_string(&path)?, "{}", path.display());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_export_of_nothing_has_its_frame_alone() -> anyhow::Result<()> {
    let read = Read::after("select 1").await?;
    for profile in [Profile::Compat, Profile::Exact, Profile::Full] {
        let (csv, done) = exported(&read.reader(), "", options(profile, Format::Csv)).await?;
        assert_eq!(csv, format!("{}\r\n", done.manifest.columns.join(",")));
        let (ndjson, done) = exported(&read.reader(), "", options(profile, Format::Ndjson)).await?;
        assert_eq!((ndjson.as_str(), done.manifest.parts.len()), ("", 0));
        assert_eq!((done.manifest.first_entry_at, done.manifest.truncated), (None, false));
        let (json, done) = exported(&read.reader(), "", options(profile, Format::Json)).await?;
        let list = if profile == Profile::Full { "entries" } else { "changes" };
        let at = done.manifest.generated_at;
        assert_eq!(json, format!(r#"{{"{list}":[],"format_version":1,"generated_at":"{at}"}}"#));
    }
    Ok(())
}

#[tokio::test]
async fn whether_there_are_more_rows_than_wanted_is_exact() -> anyhow::Result<()> {
    let read = Read::after(super::tenants::TENANTS).await?;
    for (profile, all) in [(Profile::Exact, 80), (Profile::Full, 160)] {
        for (max_rows, rows, truncated) in
            [(1, 1, true), (all - 1, all - 1, true), (all, all, false), (all + 1, all, false)]
        {
            let limited = Options { max_rows: Some(max_rows), ..options(profile, Format::Ndjson) };
            let (text, done) = exported(&read.reader(), "", limited).await?;
            assert_eq!(text.lines().count() as u64, rows, "{max_rows}");
            assert_eq!(
                (done.manifest.rows.total(), done.manifest.truncated),
                (rows, truncated),
                "{profile} {max_rows}"
            );
        }
    }
    Ok(())
}
