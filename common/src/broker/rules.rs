//! What stored settings must be like, field by field: everything that a server stores is in a table here, or is reported.

use std::time::Duration;

use humantime::format_duration;
use serde_json::{Map, Value};

use super::{BrokerError, BrokerObject};

/// What a field must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// Exactly this.
    Is(Value),
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// Absent, or nothing: 0, false, empty.
    Absent,
    /// 0 or −1.
    Unlimited,
    /// 0 or −1; or at least so much.
    Room(i64),
    /// At least so much.
    AtLeast(i64),
    /// No concern of ours, or checked elsewhere.
    Any,
}

/// One field of a stored configuration.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    /// What comes of it otherwise.
    pub(super) why: &'static str,
    /// It costs something and makes nothing wrong.
    pub(super) mild: bool,
}

/// A field that makes the whole unfit.
pub(super) fn must(name: &'static str, rule: Rule, why: &'static str) -> Field {
    Field { name, rule, why, mild: false }
}

/// A field that is only reported.
pub(super) fn should(name: &'static str, rule: Rule, why: &'static str) -> Field {
    Field { name, rule, why, mild: true }
}

/// Fields that may be anything.
pub(super) fn free<const N: usize>(names: [&'static str; N]) -> impl Iterator<Item = Field> {
    names.into_iter().map(|name| should(name, Rule::Any, ""))
}

/// Ends the report of a field that no table knows.
pub(super) const UNKNOWN: &str = "a setting that this version does not know";

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FieldComparison {
    /// Each keeps the pipeline from working as promised.
    pub(super) unfit: Vec<String>,
    /// The fields of these.
    pub(super) unfit_fields: Vec<&'static str>,
    /// Each costs something, or is not known.
    pub(super) unusual: Vec<String>,
}

impl FieldComparison {
    /// An error unless everything fits.
    pub(super) fn require_compatible(&self, object: BrokerObject, remedy: &str) -> Result<(), BrokerError> {
        if self.unfit.is_empty() {
            return Ok(());
        }
        let differences = self.unfit.join("; ");
        Err(BrokerError::Incompatible { object, differences, remedy: remedy.to_owned(), skipping: None })
    }
}

/// Compares. A field that no table knows and that is set to something is reported by name.
pub(super) fn compare_fields(fields: &[Field], found: &Map<String, Value>) -> FieldComparison {
    let mut comparison = FieldComparison::default();
    for Field { name, rule, why, mild } in fields {
        let value = name.split('.').try_fold(None, |above: Option<&Value>, part| {
            Some(Some(match above {
                None => found.get(part)?,
                Some(above) => above.get(part)?,
            }))
        });
        let value = value.flatten().unwrap_or(&Value::Null);
        let Some(wanted) = violated(rule, value) else {
            continue;
        };
        let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let (found, wanted) = (shown(name, value), wanted.replace("{}", &wanted_of(name, rule)));
        let list = if *mild {
            &mut comparison.unusual
        } else {
            comparison.unfit_fields.push(name);
            &mut comparison.unfit
        };
        list.push(format!("{name} is {found}, must be {wanted}{because}"));
    }
    let known = |name: &str| fields.iter().any(|field| field.name.split('.').next() == Some(name));
    for (name, value) in found {
        if !known(name) && !is_nothing(value) {
            let value = shown(name, value);
            comparison.unusual.push(format!("{name} is {value}, {UNKNOWN}"));
        }
    }
    comparison
}

/// What is wanted instead, `{}` standing for the rule's own value.
fn violated(rule: &Rule, value: &Value) -> Option<&'static str> {
    let number = value.as_i64().unwrap_or_default();
    let (fits, wanted) = match rule {
        Rule::Any => (true, ""),
        Rule::Is(wanted) => (wanted == value || is_nothing(wanted) && is_nothing(value), "{}"),
        Rule::OneOf(words) => {
            (is_nothing(value) || value.as_str().is_some_and(|word| words.contains(&word)), "{}")
        }
        Rule::Absent => (is_nothing(value), "absent"),
        Rule::Unlimited => (number <= 0, "without limit"),
        Rule::Room(least) => (number <= 0 || number >= *least, "at least {} or without limit"),
        Rule::AtLeast(least) => (number >= *least, "at least {}"),
    };
    (!fits).then_some(wanted)
}

fn wanted_of(name: &str, rule: &Rule) -> String {
    match rule {
        Rule::Is(value) => shown(name, value),
        Rule::OneOf(words) => words.join(" or "),
        Rule::Room(least) | Rule::AtLeast(least) => shown(name, &(*least).into()),
        Rule::Absent | Rule::Unlimited | Rule::Any => String::new(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

/// Durations are stored in nanoseconds.
const DURATIONS: [&str; 9] = [
    "ack_wait",
    "backoff",
    "duplicate_window",
    "idle_heartbeat",
    "inactive_threshold",
    "max_age",
    "max_expires",
    "priority_timeout",
    "subject_delete_marker_ttl",
];

fn shown(name: &str, value: &Value) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    match value {
        Value::Null => "absent".to_owned(),
        Value::Number(nanos) if DURATIONS.contains(&last) && nanos.as_u64().is_some() => {
            format_duration(Duration::from_nanos(nanos.as_u64().unwrap_or_default())).to_string()
        }
        Value::Array(items) if DURATIONS.contains(&last) => {
            items.iter().map(|item| shown(name, item)).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(rule: Rule, value: &Value) -> Vec<String> {
        let map = Map::from_iter([("limits".to_owned(), json!({ "max_age": value }))]);
        compare_fields(&[must("limits.max_age", rule, "it hurts")], &map).unfit
    }

    #[test]
    fn every_rule_is_held_on_its_edge() {
        for (rule, fits, not) in [
            (Rule::Is("file".into()), json!("file"), json!("memory")),
            (Rule::Is(json!(["s"])), json!(["s"]), json!(["s", "t"])),
            (Rule::Is(false.into()), Value::Null, json!(true)),
            (Rule::OneOf(&["a", "b"]), json!("b"), json!("c")),
            (Rule::OneOf(&["a", "b"]), json!(""), json!("c")),
            (Rule::Absent, json!({ "x": 0, "y": "" }), json!({ "x": 0, "y": "z" })),
            (Rule::Absent, json!([]), json!(["x"])),
            (Rule::Unlimited, json!(-1), json!(1)),
            (Rule::Room(5), json!(0), json!(4)),
            (Rule::Room(5), json!(5), json!(4)),
            (Rule::AtLeast(5), json!(5), Value::Null),
        ] {
            assert!(found(rule.clone(), &fits).is_empty(), "{rule:?} {fits}");
            let told = found(rule.clone(), &not);
            assert!(told[0].starts_with("limits.max_age is ") && told[0].ends_with("(it hurts)"), "{told:?}");
        }
    }

    #[test]
    fn what_no_table_knows_is_told_of_by_name_unless_it_is_nothing() {
        let map =
            json!({ "a": 1, "b": 0, "new_thing": { "on": true }, "later": {}, "max_age": 1_500_000_000 });
        let comparison = compare_fields(&[should("a", Rule::Any, "")], map.as_object().expect("an object"));
        assert!(comparison.unfit.is_empty());
        assert_eq!(comparison.unusual.len(), 2, "{comparison:?}");
        assert!(comparison.unusual[0].starts_with("max_age is 1s 500ms, a setting that"), "{comparison:?}");
        assert!(
            comparison.unusual[1].starts_with("new_thing is {\"on\":true}, a setting that"),
            "{comparison:?}"
        );
    }
}
