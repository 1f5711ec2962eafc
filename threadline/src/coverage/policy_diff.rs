//! In what two policies of one table differ.

use serde_json::{Map, Value, json};

use crate::capture::Policy;

/// For each option what only one of them has, or both values where they differ; empty lists and null where they do not.
pub(super) fn of(configured: &Policy, deployed: &Policy) -> Map<String, Value> {
    let paths = |policy: &Policy| -> Vec<String> { policy.paths.iter().map(|path| path.join(".")).collect() };
    let lists = [
        ("exclude", configured.exclude.clone(), deployed.exclude.clone()),
        ("mask", configured.mask.clone(), deployed.mask.clone()),
        ("hash", configured.hash.clone(), deployed.hash.clone()),
        ("paths", paths(configured), paths(deployed)),
        ("except", configured.except.clone(), deployed.except.clone()),
        ("primary_key", configured.primary_key.clone(), deployed.primary_key.clone()),
    ];
    let mut diff = Map::new();
    for (option, in_config, in_deployed) in lists {
        diff.insert(format!("{option}_only_in_config"), only(&in_config, &in_deployed));
        diff.insert(format!("{option}_only_in_deployed"), only(&in_deployed, &in_config));
    }
    // Settings that say no level are content with either.
    let level = configured.level.or(deployed.level);
    let hash_key = |policy: &Policy| (!policy.hash.is_empty()).then(|| policy.hash_key.clone());
    let values = [
        ("placeholder", json!(configured.mask_placeholder), json!(deployed.mask_placeholder)),
        ("hash_key", json!(hash_key(configured)), json!(hash_key(deployed))),
        ("level", json!(level), json!(deployed.level)),
        ("strict", json!(configured.strict), json!(deployed.strict)),
        ("store_changed_from", json!(configured.store_changed_from), json!(deployed.store_changed_from)),
    ];
    for (option, config, deployed) in values {
        let mismatch =
            if config == deployed { Value::Null } else { json!({"config": config, "deployed": deployed}) };
        diff.insert(format!("{option}_mismatch"), mismatch);
    }
    diff
}

/// Whether there is no difference.
pub(super) fn is_empty(diff: &Map<String, Value>) -> bool {
    diff.values().all(|value| value.is_null() || *value == json!([]))
}

fn only(these: &[String], others: &[String]) -> Value {
    these.iter().filter(|one| !others.contains(one)).cloned().collect()
}
