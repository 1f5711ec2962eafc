//! Keys and values that had other names once. Files, variables and flags that still use an old name are read.

use toml::Value;

/// Old key and new one.
pub(super) const KEYS: [(&str, &str); 10] = [
    ("publisher.page_rows", "relay.page_rows"),
    ("publisher.poll_min", "relay.poll_min"),
    ("publisher.poll_max", "relay.poll_max"),
    ("publisher.lease", "relay.lease"),
    ("publisher.retention", "relay.retention"),
    ("publisher.maintenance", "relay.maintenance_interval"),
    ("publisher.window", "publisher.max_in_flight"),
    ("consumer.attempts", "consumer.max_attempts"),
    ("consumer.breaker", "consumer.max_dead_letters_per_minute"),
    ("consumer.reconcile.every", "consumer.reconcile.interval"),
];

/// Key, old value and new one.
pub(super) const VALUES: [(&str, &str, &str); 1] = [("consumer.unknown_events", "letters", "dead_letter")];

/// The key that an old name stands for.
pub(super) fn new_name(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

/// The old name of a key.
pub(super) fn old_name(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(_, new)| *new == key).map(|(old, _)| *old)
}

/// The old value and the new one, where `value` is an old one of the key.
pub(super) fn new_value(key: &str, value: &Value) -> Option<(&'static str, &'static str)> {
    VALUES
        .iter()
        .find(|(renamed, old, _)| *renamed == key && value.as_str() == Some(*old))
        .map(|(_, old, new)| (*old, *new))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_lists_exactly_these_renamed_keys_and_values() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("docs/configuration.md");
        let listed: Vec<&str> =
            text.lines().filter(|line| line.starts_with("- `") && line.ends_with(" now.")).collect();
        let keys = super::KEYS.iter().map(|(old, new)| format!("- `{old}` is called `{new}` now."));
        let values = super::VALUES
            .iter()
            .map(|(key, old, new)| format!("- `{key} = \"{old}\"` is called `{key} = \"{new}\"` now."));
        let expected: Vec<String> = keys.chain(values).collect();
        assert_eq!(listed, expected);
    }
}
