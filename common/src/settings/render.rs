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

fn lines(out: &mut String, section: &str, prefix: &str, value: &Value, provenance: &Provenance) {
    for (name, value) in value.as_table().into_iter().flatten() {
        let key = format!("{prefix}{name}");
        // Options of forwarder kinds are not typed here, and any text among them may be a secret.
        let untyped = section.starts_with("forwarder[") && !PUBLIC.contains(&key.as_str());
        if value.is_table() && !untyped {
            lines(out, section, &format!("{key}."), value, provenance);
        } else {
            let shown = if untyped { masked(value) } else { value.clone() };
            let source = provenance.of(&format!("{section}.{key}"));
            let _ = writeln!(out, "{} = {shown} # {source}", secrets::masked(&key));
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
    fn the_defaults_read_back_as_themselves() {
        let (settings, provenance) = Layers::default().build().expect("the defaults are valid");
        let text = render(&settings, &provenance);
        let (again, _) = Layers::default().text(&text, "printed").expect("TOML").build().expect("valid");
        assert_eq!(render(&again, &Provenance::default()), render(&settings, &Provenance::default()));
    }
}
