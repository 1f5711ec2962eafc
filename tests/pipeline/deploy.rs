//! What `deploy/` and the runbook say of metrics, commands and settings is true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{
    process::telemetry::names::{self, Kind},
    settings::Layers,
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
    let is_ours = |name: &&str| name.starts_with("audit_") || name.starts_with("threadline_");
    text.split(|c: char| !word(c)).filter(is_ours).collect()
}

/// Whether a series has this name: a histogram is seen by its parts only.
fn exists(series: &str) -> bool {
    let services = names::ALL.iter().map(|metric| (metric.name, metric.kind == Kind::Histogram));
    let timeline = threadline::telemetry::names::all()
        .map(|metric| (metric.name, metric.kind == threadline::telemetry::names::Kind::Histogram));
    services.chain(timeline).any(|(name, is_histogram)| {
        let part = series.strip_prefix(name);
        if is_histogram {
            part.is_some_and(|part| ["_bucket", "_sum", "_count"].contains(&part))
        } else {
            part == Some("")
        }
    })
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    for path in ["deploy/prometheus/alerts.yml", "deploy/grafana/pipeline.json"] {
        let text = read(path);
        let used = metrics(&text);
        for ours in ["audit_", "threadline_"] {
            assert!(used.iter().filter(|name| name.starts_with(ours)).count() > 4, "{path}: {used:?}");
        }
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

/// The documents of a file of YAML.
fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `kubectl apply -f deploy/kubernetes` reads, each with its path.
fn manifests() -> Vec<(String, Value)> {
    let folder = "deploy/kubernetes";
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let paths = entries.map(|name| format!("{folder}/{}", name.to_str().unwrap()));
    paths
        .flat_map(|path| documents(&path).into_iter().map(move |document| (path.clone(), document)))
        .collect()
}

/// Whatever stands under a key, at any depth.
fn under<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(name, one)| {
                std::iter::once(one).filter(|_| name == key).chain(under(one, key)).collect::<Vec<_>>()
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(|one| under(one, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_alert_says_what_to_do_and_links_to_its_section_of_the_runbook() {
    let anchors = anchors(&read("docs/operations.md"));
    let [file] = &documents("deploy/prometheus/alerts.yml")[..] else {
        panic!("one document");
    };
    let groups = file["groups"].as_array().unwrap();
    let alerts: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(groups.len() == 2 && alerts.len() >= 15, "{alerts:?}");
    let unique: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    assert_eq!(unique.len(), alerts.len(), "names are unique");
    for alert in alerts {
        let name = &alert["alert"];
        assert!(alert["expr"].as_str().is_some_and(|expression| !metrics(expression).is_empty()), "{name}");
        let severity = alert["labels"]["severity"].as_str();
        assert!(severity.is_some_and(|one| ["warning", "critical"].contains(&one)), "{name}");
        let annotations = &alert["annotations"];
        for key in ["summary", "action"] {
            assert!(annotations[key].as_str().is_some_and(|text| text.len() > 20), "{name}: {key}");
        }
        // The address of the pages is what Prometheus is told: a path in a repository is nothing that a browser opens.
        let link = annotations["runbook_url"].as_str();
        let anchor = link.and_then(|link| link.strip_prefix("{{ $externalLabels.runbooks }}/operations.md#"));
        assert!(anchor.is_some_and(|anchor| anchors.contains(anchor)), "{name}: {link:?} of {anchors:?}");
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
        "a-check-of-the-timeline-failed",
        "figures-of-the-timeline-are-old",
        "sealing-is-late",
        "a-purge-is-overdue",
        "tables-are-uncovered",
        "the-operator-surface-fails",
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
    // A row is a heading.
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for part in std::iter::once(panel).chain(panel["targets"].as_array().unwrap()) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    Ok(())
}

#[test]
fn applying_the_folder_creates_no_secret_and_what_it_names_is_shown_by_the_example() {
    let manifests = manifests();
    assert!(manifests.len() > 5, "{manifests:?}");
    for (path, document) in &manifests {
        assert!(document["apiVersion"].is_string(), "{path}");
        assert!(
            document["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("audit-")),
            "{path}"
        );
        assert!(document["kind"].is_string() && document["kind"] != "Secret", "{path}: {document}");
    }
    let shown: BTreeSet<String> = documents("deploy/examples/secrets.yaml")
        .iter()
        .inspect(|document| assert_eq!(document["kind"], "Secret"))
        .map(|document| document["metadata"]["name"].as_str().unwrap().to_owned())
        // Made of a file by a command that the example shows.
        .chain(["audit-receipts".to_owned()])
        .collect();
    let named = manifests.iter().flat_map(|(_, document)| {
        let referred = under(document, "secretRef").into_iter().map(|one| &one["name"]);
        referred.chain(under(document, "secretName")).filter_map(Value::as_str).map(str::to_owned)
    });
    assert_eq!(named.collect::<BTreeSet<_>>(), shown);
    let [kustomization] = &documents("deploy/kustomization.yaml")[..] else {
        panic!("one document");
    };
    let listed: BTreeSet<String> = kustomization["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("deploy/{}", one.as_str().unwrap()))
        .collect();
    assert_eq!(listed, manifests.into_iter().map(|(path, _)| path).collect());
}

#[test]
fn one_image_with_one_tag_and_a_user_by_number_is_what_everything_runs() {
    let image = format!("threadline-pipeline:{}", env!("CARGO_PKG_VERSION"));
    let manifests = manifests();
    let mut images: Vec<&Value> =
        manifests.iter().flat_map(|(_, document)| under(document, "image")).collect();
    assert!(images.len() >= 5, "{images:?}");
    let compose = &documents("docker-compose.yml")[0];
    let (ours, others): (Vec<&Value>, Vec<&Value>) = under(compose, "image")
        .into_iter()
        .partition(|image| image.as_str().unwrap().starts_with("threadline"));
    assert!(ours.len() >= 4 && !others.is_empty(), "{ours:?} {others:?}");
    images.extend(ours);
    assert!(images.iter().all(|one| **one == image), "{image}: {images:?}");
    for other in others {
        let tag = other.as_str().and_then(|image| image.split_once(':')).map_or("", |(_, tag)| tag);
        assert!(tag.contains('.'), "{other} may be another one tomorrow");
    }
    let kustomization = &documents("deploy/kustomization.yaml")[0]["images"][0];
    assert_eq!(kustomization["newTag"], env!("CARGO_PKG_VERSION"));

    let dockerfile = read("Dockerfile");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    for (path, document) in manifests.iter().filter(|(_, document)| !under(document, "containers").is_empty())
    {
        let contexts = under(document, "securityContext");
        let of_pod: Vec<_> = contexts.iter().filter(|one| !one["runAsUser"].is_null()).collect();
        assert_eq!(of_pod.len(), 1, "{path}");
        let (by, group) = (&of_pod[0]["runAsUser"], &of_pod[0]["runAsGroup"]);
        assert_eq!(
            (format!("{by}:{group}").as_str(), &of_pod[0]["runAsNonRoot"]),
            (user, &true.into()),
            "{path}"
        );
    }
}

#[test]
fn the_settings_in_the_manifests_can_be_used() -> anyhow::Result<()> {
    let [config] = &documents("deploy/kubernetes/config.yaml")[..] else {
        panic!("one document");
    };
    let toml = config["data"]["audit.toml"].as_str().unwrap();
    let (settings, _) = Layers::default().text(toml, "config.yaml")?.build()?;
    assert_eq!(settings.forwarder.len(), 1);
    for (name, listen) in [
        ("publisher", settings.publisher.listen),
        ("consumer", settings.consumer.listen),
        ("serve", settings.operator.metrics_listen),
    ] {
        let address = String::from(listen);
        let (_, port) = address.rsplit_once(':').unwrap();
        let manifest = read(&format!("deploy/kubernetes/{name}.yaml"));
        assert!(manifest.contains(&format!("containerPort: {port}")), "{name}: {address}");
        assert!(manifest.contains(&format!("prometheus.io/port: \"{port}\"")), "{name}: {address}");
    }
    let place = settings.operator.listen.to_string();
    let (_, port) = place.rsplit_once(':').unwrap();
    assert!(read("deploy/kubernetes/serve.yaml").contains(&format!("port: {port}\n")), "{port}");
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
    assert!(commands.len() >= 12, "{commands:?}");
    for command in commands {
        // Arguments are read up to there, and nothing is done.
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--help"]).collect();
        let (status, said) = process::run(&command[0], &arguments, &[], sandbox().work_dir.path())?;
        assert!(status.success() && said.contains("Usage: "), "{command:?}: {said}");
    }
    Ok(())
}

/// Who a URL of PostgreSQL connects as.
fn connected_as(text: &str) -> impl Iterator<Item = &str> {
    text.split("postgres://").skip(1).filter_map(|rest| rest.split_once(':').map(|(user, _)| user))
}

#[test]
fn whoever_a_process_connects_as_is_a_role_that_has_grants() {
    let grants = read("deploy/postgres/timeline.sql") + &read("deploy/postgres/source.sql");
    let lists = grants.split("in array array[").skip(1).filter_map(|rest| rest.split(']').next());
    let roles: BTreeSet<&str> = lists.flat_map(|list| list.split('\'')).filter(|one| one.len() > 2).collect();
    let units = fs::read_dir(root().join("deploy/systemd")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<String> =
        units.map(|name| format!("deploy/systemd/{}", name.to_str().unwrap())).collect();
    files.extend(["deploy/examples/secrets.yaml", "docker-compose.yml"].map(str::to_owned));
    let texts: Vec<String> = files.iter().map(|path| read(path)).collect();
    let used: BTreeSet<&str> = texts.iter().flat_map(|text| connected_as(text)).collect();
    // The owner of the tables, and in docker compose a superuser.
    let unknown: Vec<&&str> =
        used.iter().filter(|user| !roles.contains(*user) && !["OWNER", "postgres"].contains(user)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {roles:?}");
    // The pages read by one role, and do what people ask for by others.
    let compose = &documents("docker-compose.yml")[0]["services"]["serve"]["environment"];
    let secrets = documents("deploy/examples/secrets.yaml");
    let secret = secrets.iter().find(|document| document["metadata"]["name"] == "audit-serve").unwrap();
    let documented = read("docs/configuration.md");
    for variables in [compose, &secret["stringData"]] {
        let role = |name: &str| variables[name].as_str().and_then(|url| connected_as(url).next());
        assert_eq!(role("THREADLINE_DATABASE_URL"), Some("audit_reader"), "{variables}");
        assert_eq!(role("AUDIT__OPERATOR__WRITER_URL"), Some("audit_surface"), "{variables}");
        for name in variables.as_object().unwrap().keys() {
            let Some(key) = name.strip_prefix("AUDIT__") else { continue };
            let key = key.to_lowercase().replace("__", ".");
            assert!(documented.contains(&format!("| `{key}` |")), "{name}");
        }
    }
}
