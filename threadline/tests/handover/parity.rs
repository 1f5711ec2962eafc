//! An export holds what the pages of the timeline show with the same filter, and of another tenant nothing.

use std::collections::BTreeSet;

use serde_json::Value;
use threadline::{
    export::{Format, Profile},
    query::{Filter, From, Kind, PageRequest, Reader, Scope},
};

use super::{
    Read, exported, options,
    tenants::{FILTERS, TENANTS, scopes},
};

/// The ids of all pages.
async fn pages(reader: &Reader, filter: &Filter) -> anyhow::Result<Vec<String>> {
    let mut request = PageRequest { size: 7, ..PageRequest::default() };
    let mut ids = Vec::new();
    loop {
        let page = reader.page(filter, &request).await?;
        ids.extend(page.entries.iter().map(|entry| entry.id().to_string()));
        let Some(older) = page.older else { return Ok(ids) };
        request.from = From::OlderThan(older);
    }
}

fn ids(ndjson: &str) -> Vec<String> {
    let id = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        entry["id"].as_str().unwrap().to_owned()
    };
    ndjson.lines().map(id).collect()
}

#[tokio::test]
async fn exports_hold_the_entries_of_pages_and_full_ones_in_their_order() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let reader = read.reader();
    let mut found = 0;
    for text in FILTERS {
        let filter: Filter = text.parse()?;
        let (full, exported_full) = exported(&reader, text, options(Profile::Full, Format::Ndjson)).await?;
        let expected = pages(&reader, &filter).await?;
        assert_eq!(ids(&full), expected, "{text}");
        assert_eq!(exported_full.manifest.rows.total(), expected.len() as u64, "{text}");
        found += expected.len();
        if filter.kind.is_some_and(|kind| kind != Kind::Change) {
            continue;
        }
        let (exact, _) = exported(&reader, text, options(Profile::Exact, Format::Ndjson)).await?;
        let changes = Filter { kind: Some(Kind::Change), ..filter };
        let exact = ids(&exact);
        let expected = pages(&reader, &changes).await?;
        assert_eq!(exact.len(), expected.len(), "{text}");
        assert_eq!(exact.iter().collect::<BTreeSet<_>>(), expected.iter().collect(), "{text}");
    }
    assert!(found > 500, "{found}");
    Ok(())
}

#[tokio::test]
async fn exact_exports_are_in_the_librarys_order_whatever_the_filter() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    for text in ["", "actor:user:u1", "correlation:shared", "table:posts", "action:act.*"] {
        let (text, _) = exported(&read.reader(), text, options(Profile::Exact, Format::Ndjson)).await?;
        let place = |line: &str| {
            let change: Value = serde_json::from_str(line).unwrap();
            (change["captured_at"].as_str().unwrap().to_owned(), change["id"].as_str().unwrap().to_owned())
        };
        let places: Vec<_> = text.lines().map(place).collect();
        assert!(places.len() > 10 && places.is_sorted_by(|one, other| one > other), "{places:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_exports_anything_of_another_tenant() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    for (name, scope) in scopes() {
        let reader = read.timeline.reader(scope);
        let mut seen = 0;
        for text in FILTERS {
            for profile in [Profile::Exact, Profile::Full] {
                for format in [Format::Csv, Format::Json, Format::Ndjson] {
                    let of_actions = ["kind:action"].contains(&text) && profile != Profile::Full;
                    if of_actions {
                        continue;
                    }
                    let (exported, done) = match exported(&reader, text, options(profile, format)).await {
                        // A table of which nothing may be seen is none.
                        Err(refused) if refused.term() == Some("table_unknown") => {
                            assert_eq!(pages(&reader, &text.parse()?).await?, [""; 0], "{name}: {text}");
                            continue;
                        }
                        exported => exported?,
                    };
                    assert!(!exported.contains("OTHERS"), "{name}: {text}: {exported}");
                    seen += done.manifest.rows.total();
                }
            }
        }
        let is_blind = ["nothing", "another tenant", "a table that there is none of"].contains(&name);
        assert_eq!(seen == 0, is_blind, "{name}: {seen}");
    }
    let scope = Scope::of_context("tenant", "MINE");
    let (_, done) = exported(&read.timeline.reader(scope), "", options(Profile::Full, Format::Csv)).await?;
    let rule = serde_json::json!([{"context": {"key": "tenant", "value": "MINE"}}]);
    assert_eq!(done.manifest.scope, serde_json::json!({"changes": rule, "actions": rule}));
    Ok(())
}
