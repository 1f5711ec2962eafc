//! `config print`: every key with its value, secrets masked, and where it came from.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::{Provenance, Settings, secrets};

/// The settings as TOML, one key a line, each with its source as a comment. Reading it back gives the same settings
/// except masked passwords.
///
/// # Panics
/// Never: settings are TOML by construction.
#[must_use]
pub fn render(settings: &Settings, provenance: &Provenance) -> String {
    let table = Table::try_from(settings).expect("settings are TOML");
    let mut out = String::new();
    let (lists, sections): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_array());
    for (name, value) in sections {
        let _ = writeln!(out, "[{name}]");
        lines(&mut out, name, "", value, provenance);
        out.push('\n');
    }
    for (name, value) in lists {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        if items.is_empty() {
            let _ = writeln!(out, "{name} = [] # {}", provenance.of(name));
        }
        for (index, item) in items.iter().enumerate() {
            let _ = writeln!(out, "[[{name}]]");
            lines(&mut out, &format!("{name}[{index}]"), "", item, provenance);
            out.push('\n');
        }
    }
    out
}

/// The same as a JSON array, each key an object with `key`, `value` and `source`.
#[must_use]
pub(super) fn render_json(settings: &Settings, provenance: &Provenance) -> String {
    let table = Table::try_from(settings).expect("settings are TOML");
    let mut entries = Vec::new();
    for (name, value) in &table {
        match value.as_array() {
            None => collect(&mut entries, name, "", value),
            Some(items) if items.is_empty() => entries.push((name.clone(), value.clone())),
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    collect(&mut entries, &format!("{name}[{index}]"), "", item);
                }
            }
        }
    }
    let entries: Vec<serde_json::Value> = entries
        .into_iter()
        .map(|(key, value)| {
            let source = provenance.of(&key).to_string();
            serde_json::json!({ "key": secrets::masked(&key), "value": value, "source": source })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(entries))
}

/// `docs/configuration.md` as a settings file: a test holds the page to the keys and their defaults.
#[must_use]
pub(super) fn template() -> String {
    const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md"));
    let mut out = String::from(
        "# Settings of publisher, consumer and threadline. Every key with its default; take out the # before what you set.\n\
         # URLs may also come from SOURCE_DATABASE_URL, THREADLINE_DATABASE_URL and NATS_URL.\n",
    );
    // The page has the keys of a section in several places.
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in PAGE.lines() {
        let Some((key, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` |")) else {
            continue;
        };
        let (Some((path, name)), Some((default, meaning))) = (key.rsplit_once('.'), rest.split_once('|'))
        else {
            continue;
        };
        let default = default.trim().trim_matches('`');
        let default = if default.is_empty() { "\"\"" } else { default };
        let meaning = plain(meaning.trim().trim_end_matches('|').trim());
        let index = sections.iter().position(|(section, _)| *section == path).unwrap_or_else(|| {
            sections.push((path, String::new()));
            sections.len() - 1
        });
        let _ = writeln!(sections[index].1, "# {meaning}\n#{name} = {default}");
    }
    for (section, keys) in sections {
        let _ = write!(out, "\n[{section}]\n{keys}");
    }
    out += "\n# Where events go; without any, one forwarder into the timeline.\n\
            #[[forwarder]]\n#id = \"timeline\"\n#kind = \"threadline\"\n";
    out
}

/// Markdown as the text of a comment: without code marks, and with the files of links by their path in this repository.
fn plain(markdown: &str) -> String {
    let markdown = markdown.replace('`', "");
    let mut parts = markdown.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let link = part.split_once("](").and_then(|(name, rest)| Some((name, rest.split_once(')')?)));
        match link {
            Some((name, (path, rest))) if name == path => {
                let _ = write!(text, "docs/{path}{rest}");
            }
            Some((name, (_, rest))) => text.extend([name, rest]),
            None => text.extend(["[", part]),
        }
    }
    text
}

fn lines(out: &mut String, section: &str, prefix: &str, value: &Value, provenance: &Provenance) {
    let mut entries = Vec::new();
    collect(&mut entries, section, prefix, value);
    for (path, shown) in entries {
        let source = provenance.of(&path);
        let key = &path[section.len() + 1..];
        let _ = writeln!(out, "{} = {shown} # {source}", secrets::masked(key));
    }
}

/// Every key of a section with its value, masked where it may be secret, under its whole path.
fn collect(entries: &mut Vec<(String, Value)>, section: &str, prefix: &str, value: &Value) {
    for (name, value) in value.as_table().into_iter().flatten() {
        let key = format!("{prefix}{name}");
        // Options of forwarder kinds are not typed here, and any text among them may be a secret.
        let untyped = section.starts_with("forwarder[") && !PUBLIC.contains(&key.as_str());
        if value.is_table() && !untyped {
            collect(entries, section, &format!("{key}."), value);
        } else {
            let shown = if untyped { masked(value) } else { value.clone() };
            entries.push((format!("{section}.{key}"), shown));
        }
    }
}

/// What is no secret in a forwarder of any kind.
const PUBLIC: [&str; 6] = ["id", "kind", "dispatch", "schema", "profile", "actor_type"];

fn masked(value: &Value) -> Value {
    match value {
        Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => value.clone(),
        _ => Value::String("***".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layers;
    use super::*;

    #[test]
    fn what_is_printed_names_sources_and_hides_secrets() {
        let file = "[[forwarder]]\nid = \"a\"\nkind = \"webhook\"\nurl = \"https://u:hunter2@siem/in\"\nAuthorization = [\"hunter2\"]\nsecret = \"hunter2\"\nheaders = { x = \"hunter2\" }";
        let variables = [("SOURCE_DATABASE_URL".into(), "postgres://app:hunter2@db/prod".into())];
        let (settings, provenance) = Layers::default()
            .text(file, "audit.toml")
            .expect("TOML")
            .environment(variables)
            .expect("text")
            .build()
            .expect("valid");
        let text = render(&settings, &provenance);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains(
                "url = \"postgres://app:***@db/prod\" # the environment variable SOURCE_DATABASE_URL"
            ),
            "{text}"
        );
        assert!(text.contains("page_rows = 1000 # the default"), "{text}");
        assert!(text.contains("kind = \"webhook\" # audit.toml"), "{text}");
    }

    #[test]
    fn programs_get_the_same_keys_and_secrets_stay_hidden() {
        let file = "[[forwarder]]\nid = \"a\"\nkind = \"webhook\"\nsecret = \"hunter2\"";
        let (settings, provenance) = Layers::default()
            .text(file, "audit.toml")
            .expect("TOML")
            .environment([("NATS_URL".into(), "nats://u:hunter2@broker".into())])
            .expect("text")
            .build()
            .expect("valid");
        let text = render_json(&settings, &provenance);
        assert!(!text.contains("hunter2"), "{text}");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let find = |key: &str| entries.iter().find(|entry| entry["key"] == key).expect(key);
        assert_eq!(find("relay.page_rows")["value"], 1_000);
        assert_eq!(find("relay.page_rows")["source"], "the default");
        assert_eq!(find("broker.url")["source"], "the environment variable NATS_URL");
        assert_eq!(find("forwarder[0].kind")["value"], "webhook");
        assert_eq!(find("forwarder[0].secret")["value"], "***");
    }

    #[test]
    fn the_template_sets_nothing_and_with_its_marks_taken_out_the_defaults() {
        let defaults = render(&Settings::default(), &Provenance::default());
        for text in [
            template(),
            template()
                .lines()
                .filter(|line| !line.starts_with("# ") && !line.ends_with("= \"\""))
                .map(|line| line.trim_start_matches('#').to_owned() + "\n")
                .collect(),
        ] {
            let (settings, _) =
                Layers::default().text(&text, "audit.toml").expect("TOML").build().expect("valid");
            assert_eq!(render(&settings, &Provenance::default()), defaults);
        }
    }

    #[test]
    fn comments_of_the_template_are_plain_text() {
        let text = template();
        assert!(text.contains("such as \"90days\"; see docs/retention.md."), "{text}");
        assert!(!text.contains('`') && !text.contains("]("), "{text}");
        assert_eq!(plain("`[a]`, [the page](b.md) and [b.md](b.md)."), "[a], the page and docs/b.md.");
    }

    #[test]
    fn the_defaults_read_back_as_themselves() {
        let (settings, provenance) = Layers::default().build().expect("the defaults are valid");
        let text = render(&settings, &provenance);
        let (again, _) = Layers::default().text(&text, "printed").expect("TOML").build().expect("valid");
        assert_eq!(render(&again, &Provenance::default()), render(&settings, &Provenance::default()));
    }
}
