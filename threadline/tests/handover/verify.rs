//! What `threadline export verify` finds. It asks no server: here is none that it could.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proptest::prelude::*;
use serde_json::Value;
use threadline::{
    export::{Destination, Format, Options, Profile, Request, export, verify},
    signing::SigningKey,
};

use super::{Ended, Read, folder, options, tenants::TENANTS};

/// Two keys as `openssl genpkey -algorithm ed25519` writes them.
pub(crate) const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";
pub(crate) const PUBLIC_HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const OTHER_HEX: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

fn verified(folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    let ran = Command::new(env!("CARGO_BIN_EXE_threadline"))
        .args(["export", "verify"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

async fn made(path: &Path, name: &str, options: Options, signed: bool) -> anyhow::Result<PathBuf> {
    let read = Read::after(TENANTS).await?;
    fs::write(path.join("key.pem"), KEY)?;
    fs::write(path.join("pub.pem"), PUBLIC)?;
    let key = signed.then(|| SigningKey::read(&path.join("key.pem"))).transpose()?;
    let request = Request { key, is_recorded: false, ..Request::new("".parse()?, options) };
    let exported = export(&read.reader(), request, Destination::file(path.join(name))).await?;
    Ok(exported.manifest_path.unwrap())
}

#[tokio::test]
async fn an_export_holds_in_every_format_and_each_change_of_it_is_found() -> anyhow::Result<()> {
    let (_folder, path) = folder()?;
    for (name, profile, format) in [
        ("a.csv", Profile::Exact, Format::Csv),
        ("b.json", Profile::Compat, Format::Json),
        ("c.ndjson", Profile::Full, Format::Ndjson),
        ("d.json", Profile::Full, Format::Json),
    ] {
        made(&path, name, options(profile, format), false).await?;
        let manifest = format!("{name}.manifest.json");
        let ended = verified(&path, &[&manifest])?;
        assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.out.starts_with("holds: ") && ended.out.lines().count() == 1, "{ended:?}");
        let file = path.join(name);
        let bytes = fs::read(&file)?;
        let middle = bytes.len() / 2;
        let mut changed = bytes.clone();
        changed[middle] ^= 1;
        let row = match format {
            Format::Csv => b"x\r\n".to_vec(),
            Format::Ndjson => b"{}\n".to_vec(),
            Format::Json | Format::Ocsf | Format::Parquet => Vec::new(),
        };
        let longer = [&bytes[..], &row, b" "].concat();
        let with_row = match format {
            Format::Json => {
                let begin = bytes.iter().position(|byte| *byte == b'[').unwrap() + 1;
                [&bytes[..begin], b"{},", &bytes[begin..]].concat()
            }
            _ => [&bytes[..], &row].concat(),
        };
        let said = |terms: &[&str], content: &[u8]| -> anyhow::Result<()> {
            fs::write(&file, content)?;
            let ended = verified(&path, &[&manifest])?;
            assert_eq!(ended.status, Some(1), "{ended:?}");
            for term in terms {
                assert!(
                    ended.out.lines().any(|line| line.starts_with(&format!("fault: {term}"))),
                    "{term}: {ended:?}"
                );
            }
            Ok(())
        };
        said(&["part: part 1, bytes 0 to", "digest: "], &changed)?;
        said(&["bytes: ", "part: the file ends before the end of part 1", "digest: "], &bytes[..middle])?;
        said(&["bytes: ", "digest: "], &longer)?;
        said(&["bytes: ", "rows: "], &with_row)?;
        said(&["bytes: ", "rows: "], b"")?;
        fs::remove_file(&file)?;
        let ended = verified(&path, &[&manifest])?;
        assert!(ended.status == Some(1) && ended.out.starts_with("fault: file: cannot read"), "{ended:?}");
        // Elsewhere it holds as well.
        fs::write(path.join("elsewhere"), &bytes)?;
        assert_eq!(verified(&path, &[&manifest, "--file", "elsewhere"])?.status, Some(0));
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_was_edited_or_that_others_signed_is_found() -> anyhow::Result<()> {
    let (_folder, path) = folder()?;
    let manifest = made(&path, "a.csv", Options::default(), true).await?;
    let name = "a.csv.manifest.json";
    for arguments in [&[name][..], &[name, "--public-key", PUBLIC_HEX], &[name, "--public-key", "pub.pem"]] {
        let ended = verified(&path, arguments)?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.out.contains(&format!("signed with {PUBLIC_HEX}")), "{ended:?}");
    }
    let fault = |arguments: &[&str], words: &str| -> anyhow::Result<()> {
        let ended = verified(&path, arguments)?;
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.out.contains(words), "{words}: {ended:?}");
        Ok(())
    };
    fault(&[name, "--public-key", OTHER_HEX], "signature: the manifest names the key")?;
    let text = fs::read_to_string(&manifest)?;
    for (from, to) in [
        (r#""filter":"""#, r#""filter":"op:update""#),
        (r#""change":80"#, r#""change":79"#),
        (r#""truncated":false"#, r#""truncated":true"#),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&manifest, text.replace(from, to))?;
        fault(&[name], "is not a signature over the manifest as it is")?;
    }
    fs::write(&manifest, text.replace(r#""format_version":1"#, r#""format_version":2"#))?;
    fault(&[name], "manifest: it is of version 2")?;
    fs::write(&manifest, text.replace(r#""file":"a.csv""#, r#""file":"../a.csv""#))?;
    fault(&[name], "file: the manifest names \"../a.csv\"")?;
    // Without a key in it, nobody has signed it.
    fs::write(&manifest, text.replace(&format!(r#""key":"{PUBLIC_HEX}""#), r#""key":null"#))?;
    fault(&[name, "--public-key", PUBLIC_HEX], "signature: the manifest is not signed, and a key was given")?;
    fs::write(&manifest, &text)?;
    fs::remove_file(path.join("a.csv.manifest.sig"))?;
    fault(&[name], "signature: cannot read the signature")?;
    fs::write(path.join("a.csv.manifest.sig"), "short")?;
    fault(&[name], "is not a signature")?;
    let ended = verified(&path, &[name, "--public-key", "nonsense"])?;
    assert_eq!(ended.status, Some(2), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_manifest_is_in_the_order_of_its_names_and_says_what_the_export_is() -> anyhow::Result<()> {
    let (_folder, path) = folder()?;
    let options = Options {
        action_metadata: true,
        spreadsheet_safe: true,
        max_rows: Some(30),
        ..options(Profile::Compat, Format::Csv)
    };
    let manifest = made(&path, "a.csv", options, true).await?;
    let text = fs::read_to_string(&manifest)?;
    let mut document: Value = serde_json::from_str(&text)?;
    assert_eq!(text, format!("{document}\n"));
    // What is another one each time.
    for name in ["generated_at", "snapshot", "database", "sha256"] {
        document[name] = Value::Null;
    }
    document["parts"][0]["sha256"] = Value::Null;
    document["bytes"] = Value::Null;
    document["parts"][0]["bytes"] = Value::Null;
    let rows = serde_json::json!({"change": 30, "action": 0, "event": 0});
    let columns = "id transaction_id table_schema table_name op captured_at table_pk data_after changed_fields changed_from transaction_json correlation_id action_id";
    let (first, last) = ("2026-03-01T00:01:19.000000Z", "2026-03-01T00:00:50.000000Z");
    let expected = serde_json::json!({
        "format_version": 1,
        "product": {"name": "threadline", "version": env!("CARGO_PKG_VERSION")},
        "file": "a.csv",
        "generated_at": null,
        "resumed_at": [],
        "database": null,
        "storage_schema": "public",
        "snapshot": null,
        "filter": "",
        "window": {"from": null, "to": null},
        "scope": "everything",
        "profile": "compat",
        "format": "csv",
        "options": {"action_metadata": true, "spreadsheet_safe": true},
        "columns": columns.split(' ').collect::<Vec<_>>(),
        "rows": rows,
        "max_rows": 30,
        "truncated": true,
        "bytes": null,
        "sha256": null,
        "parts": [{"offset": 0, "bytes": null, "sha256": null, "rows": rows, "first_entry_at": first, "last_entry_at": last}],
        "first_entry_at": first,
        "last_entry_at": last,
        "recorded": false,
        "key": PUBLIC_HEX,
    });
    assert_eq!(document, expected);
    Ok(())
}

/// A manifest with a member of arbitrary JSON.
fn nearly_a_manifest() -> impl Strategy<Value = String> {
    let whole = serde_json::json!({
        "format_version": 1, "product": {"name": "", "version": ""}, "file": "file", "generated_at": "", "resumed_at": [],
        "database": {"name": "", "system_identifier": ""}, "storage_schema": "", "snapshot": "", "filter": "",
        "window": {"from": null, "to": null}, "scope": 1, "profile": "exact", "format": "csv",
        "options": {"action_metadata": false, "spreadsheet_safe": false}, "columns": [], "rows": {"change": u64::MAX, "action": 1, "event": 0},
        "max_rows": null, "truncated": false, "bytes": 5, "sha256": "",
        "parts": [{"offset": 0, "bytes": u64::MAX, "sha256": "", "rows": {"change": u64::MAX, "action": 1, "event": 0}, "first_entry_at": null, "last_entry_at": null},
                  {"offset": u64::MAX, "bytes": 7, "sha256": "", "rows": {"change": 1, "action": 1, "event": 0}, "first_entry_at": null, "last_entry_at": null}],
        "first_entry_at": null, "last_entry_at": null, "recorded": false, "key": "zz",
    });
    let names: Vec<String> = whole.as_object().unwrap().keys().cloned().collect();
    let value = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Into::into),
        ".{0,9}".prop_map(Into::into),
        prop::sample::select(vec!["csv", "json", "ndjson", "full", "../x", "\u{1b}"]).prop_map(Into::into),
    ];
    (prop::sample::select(names), value).prop_map(move |(name, value)| {
        let mut manifest = whole.clone();
        manifest[name] = value;
        manifest.to_string()
    })
}

proptest! {
    #[test]
    fn garbage_never_holds_and_never_panics(
        manifest in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            nearly_a_manifest().prop_map(String::into_bytes),
        ],
        file in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (_folder, path) = folder().unwrap();
        fs::write(path.join("m.manifest.json"), manifest).unwrap();
        fs::write(path.join("file"), file).unwrap();
        fs::write(path.join("m.manifest.sig"), [0; 64]).unwrap();
        let faults = verify(&path.join("m.manifest.json"), None, None).unwrap_err();
        prop_assert!(!faults.is_empty());
    }
}
