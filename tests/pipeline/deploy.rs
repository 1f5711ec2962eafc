//! What `deploy/` and the runbook say of metrics, commands and settings is true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{
    settings::Layers,
    telemetry::names::{self, Kind},
};
use end_to_end::sandbox;
use sandbox::process;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whatever looks like a metric of ours.
fn metrics(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !word(c)).filter(|name| name.starts_with("audit_")).collect()
}

/// Whether a series has this name: a histogram is seen by its parts only.
fn exists(series: &str) -> bool {
    names::ALL.iter().any(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == series,
        Kind::Histogram => {
            let part = series.strip_prefix(metric.name).unwrap_or_default();
            ["_bucket", "_sum", "_count"].contains(&part)
        }
    })
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    for path in ["deploy/prometheus/alerts.yml", "deploy/grafana/pipeline.json"] {
        let text = read(path);
        let used = metrics(&text);
        assert!(used.len() > 8, "{path}: {used:?}");
        for series in used {
            assert!(exists(series), "{path}: {series}");
        }
    }
}

/// The anchors that headings of a page have.
fn anchors(page: &str) -> BTreeSet<String> {
    let heading = |line: &str| Some(line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase());
    let anchor = |heading: String| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    page.lines().filter_map(heading).map(anchor).collect()
}

/// The rules of the file, each with its lines. Line by line: no parser of YAML is worth a dependency here.
fn alerts(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut alerts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        match (line.strip_prefix("- alert: "), alerts.last_mut()) {
            (Some(name), _) => alerts.push((name, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    alerts
}

#[test]
fn every_alert_says_what_to_do_and_links_to_its_section_of_the_runbook() {
    let (text, runbook) = (read("deploy/prometheus/alerts.yml"), read("docs/operations.md"));
    let anchors = anchors(&runbook);
    let alerts = alerts(&text);
    assert!(alerts.len() >= 10, "{alerts:?}");
    let unique: BTreeSet<&str> = alerts.iter().map(|(name, _)| *name).collect();
    assert_eq!(unique.len(), alerts.len(), "names are unique");
    for (name, lines) in &alerts {
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        assert!(value("expr").is_some_and(|expression| !metrics(expression).is_empty()), "{name}");
        assert!(value("severity").is_some_and(|one| ["warning", "critical"].contains(&one)), "{name}");
        for key in ["summary", "action"] {
            let sentence = value(key).and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
            assert!(sentence.is_some_and(|text| text.len() > 20 && !text.contains('"')), "{name}: {key}");
        }
        let anchor = value("runbook").and_then(|link| link.strip_prefix("docs/operations.md#"));
        assert!(anchor.is_some_and(|anchor| anchors.contains(anchor)), "{name}: {anchor:?} of {anchors:?}");
    }
}

#[test]
fn the_runbook_has_a_section_for_each_symptom_and_each_is_short() {
    let runbook = read("docs/operations.md");
    let anchors = anchors(&runbook);
    for anchor in [
        "lag-grows",
        "unready",
        "stream-full",
        "failures-appear",
        "capture-broken",
        "rows-at-risk",
        "reconcile-differs",
        "broker-lost-data",
    ] {
        assert!(anchors.contains(anchor), "{anchor}");
    }
    for section in runbook.split("\n## ").skip(1) {
        assert!(section.trim_end().lines().count() <= 25, "too long to be read at night:\n{section}");
    }
}

#[test]
fn the_dashboard_is_json_and_takes_its_data_source_from_a_variable() -> anyhow::Result<()> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/pipeline.json"))?;
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!((&variable["name"], &variable["type"]), (&"datasource".into(), &"datasource".into()));
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        for part in std::iter::once(panel).chain(panel["targets"].as_array().unwrap()) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    Ok(())
}

#[test]
fn yaml_is_indented_by_pairs_of_spaces_and_each_manifest_has_a_kind_and_a_name() {
    let folder = root().join("deploy/kubernetes");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.push(root().join("deploy/prometheus/alerts.yml"));
    assert!(paths.len() > 5, "{paths:?}");
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let indent = line.len() - line.trim_start_matches(' ').len();
            assert!(!line.contains('\t') && indent % 2 == 0, "{}: {line:?}", path.display());
        }
        if path.extension().is_some_and(|extension| extension == "yaml") {
            for document in text.split("\n---\n") {
                for key in ["\nkind: ", "\nmetadata:\n  name: audit-", "apiVersion: "] {
                    assert!(document.contains(key), "{}: no {key:?}", path.display());
                }
            }
        }
    }
}

#[test]
fn the_settings_in_the_manifests_can_be_used() -> anyhow::Result<()> {
    let manifest = read("deploy/kubernetes/config.yaml");
    let (_, block) = manifest.split_once("audit.toml: |\n").unwrap();
    let toml: Vec<&str> = block.lines().map(str::trim_start).collect();
    let (settings, _) = Layers::default().text(&toml.join("\n"), "config.yaml")?.build()?;
    assert_eq!(settings.forwarder.len(), 1);
    for (name, listen) in [("publisher", settings.publisher.listen), ("consumer", settings.consumer.listen)] {
        let address = String::from(listen);
        let (_, port) = address.rsplit_once(':').unwrap();
        let manifest = read(&format!("deploy/kubernetes/{name}.yaml"));
        assert!(manifest.contains(&format!("containerPort: {port}")), "{name}: {address}");
        assert!(manifest.contains(&format!("prometheus.io/port: \"{port}\"")), "{name}: {address}");
    }
    Ok(())
}

/// The commands that manifests and units start.
fn commands() -> Vec<Vec<String>> {
    let files =
        ["deploy/kubernetes", "deploy/systemd"].map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let texts = files.into_iter().flatten().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let command = |line: &str| -> Option<Vec<String>> {
        if let Some(list) = line.trim_start().strip_prefix("command: ") {
            return serde_json::from_str(list).ok();
        }
        let words = line.strip_prefix("ExecStart=/usr/local/bin/")?.split(' ');
        Some(words.map(str::to_owned).collect())
    };
    texts.flat_map(|text| text.lines().filter_map(command).collect::<Vec<_>>()).collect()
}

#[test]
fn the_commands_of_manifests_and_units_are_commands() -> anyhow::Result<()> {
    let commands = commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        // Arguments are read up to there, and nothing is done.
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--help"]).collect();
        let (status, said) = process::run(&command[0], &arguments, &[], sandbox().home.path())?;
        assert!(status.success() && said.contains("Usage: "), "{command:?}: {said}");
    }
    Ok(())
}
