//! Diffs of what the Elixir library has recorded, beside what it says of them; and of changes that it cannot record.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::subsequence};
use serde::Deserialize;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;

const LIBRARY: &str = include_str!("../../../tests/query/library_diffs.jsonl");

fn raw(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn change(op: &str) -> Change {
    Change {
        id: Uuid::from_u128(1),
        transaction_id: Uuid::from_u128(2),
        table_schema: "public".to_owned(),
        table_name: "posts".to_owned(),
        partition: None,
        table_pk: raw(r#"{"id": "1"}"#),
        key_before: None,
        op: op.to_owned(),
        data_after: None,
        data_before: None,
        changed_fields: None,
        changed_from: None,
        json_nulls: None,
        erased: None,
        captured_at: datetime!(2026-03-01 00:00:00.5 +01:00),
        position: 1,
        transaction: None,
        action: None,
        captured_at_stored: None,
        captured_text: String::new(),
    }
}

/// A row of the library's, and its three forms.
#[derive(Deserialize)]
struct Case {
    change: Row,
    default: Value,
    expanded: Value,
    compat: Value,
}

#[derive(Deserialize)]
struct Row {
    id: Uuid,
    transaction_id: Uuid,
    table_schema: String,
    table_name: String,
    table_pk: Json,
    op: String,
    data_after: Option<Json>,
    changed_fields: Option<Vec<String>>,
    changed_from: Option<Json>,
    #[serde(with = "time::serde::rfc3339")]
    captured_at: OffsetDateTime,
}

impl Row {
    fn change(self) -> Change {
        Change {
            id: self.id,
            transaction_id: self.transaction_id,
            table_schema: self.table_schema,
            table_name: self.table_name,
            table_pk: self.table_pk,
            data_after: self.data_after,
            changed_fields: self.changed_fields.map(Into::into),
            changed_from: self.changed_from,
            captured_at: self.captured_at,
            ..change(&self.op)
        }
    }
}

/// As values: the library prints 19.90 as 19.9.
fn value(document: &impl Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(document).unwrap()).unwrap()
}

#[test]
fn a_diff_is_the_document_that_the_library_gives() {
    let mut ops = BTreeSet::new();
    for line in LIBRARY.lines() {
        let Case { change, default, expanded, compat } = serde_json::from_str(line).unwrap();
        let change = change.change();
        ops.insert(change.op.clone());
        assert_eq!(value(&Diff::of(&change)), default);
        assert_eq!(value(&Diff::with(&change, DiffOptions::expanded())), expanded);
        assert_eq!(value(&Diff::export_compat(&change)), compat);
    }
    assert_eq!(LIBRARY.lines().count(), 56);
    assert_eq!(ops, BTreeSet::from(["insert", "update", "delete"].map(str::to_owned)));
}

#[test]
fn numbers_keep_their_digits_and_documents_their_depth() {
    let deep = format!("{}19.90{}", "[".repeat(100_000), "]".repeat(100_000));
    let digits = "123456789012345678901234567890.1200";
    let change = Change {
        data_after: Some(raw(&format!(r#"{{"deep": {deep}, "price": 19.90, "n": {digits}}}"#))),
        changed_from: Some(raw(r#"{"deep": 1.0, "price": 20.00}"#)),
        changed_fields: Some(["price", "n", "deep"].map(str::to_owned).to_vec().into()),
        ..change("update")
    };
    let diff = serde_json::to_string(&Diff::of(&change)).unwrap();
    let fields = format!(
        r#""field_changes":[{{"name":"deep","before":1.0,"after":{deep}}},{{"name":"n","prior_state":"omitted","after":{digits}}},{{"name":"price","before":20.00,"after":19.90}}]"#
    );
    assert!(diff.contains(&fields));
    assert!(serde_json::to_string(&Diff::export_compat(&change)).unwrap().contains(digits));
}

#[test]
fn times_are_in_utc_with_six_decimals() {
    assert_eq!(value(&Diff::of(&change("insert")))["captured_at"], json!("2026-02-28T23:00:00.500000Z"));
    assert_eq!(
        value(&Diff::export_compat(&change("insert")))["captured_at"],
        json!("2026-02-28T23:00:00.500000Z")
    );
}

#[test]
fn a_deleted_row_shows_its_fields_where_it_was_stored_and_is_asked_for() {
    let deleted = Change {
        data_before: Some(raw(r#"{"title": "a", "id": 1, "meta": null}"#)),
        json_nulls: Some(vec!["meta".to_owned()].into()),
        ..change("delete")
    };
    let fields = |options| value(&Diff::with(&deleted, options))["field_changes"].clone();
    assert_eq!(fields(DiffOptions::default()), json!([]));
    assert_eq!(fields(DiffOptions { expand_inserts: true, ..DiffOptions::default() }), json!([]));
    assert_eq!(
        fields(DiffOptions::expanded()),
        json!([
            {"name": "id", "before": 1, "kind": "removed"},
            {"name": "meta", "before": null, "kind": "removed", "before_is_sql_null": true},
            {"name": "title", "before": "a", "kind": "removed"},
        ])
    );
    assert_eq!(value(&Diff::with(&change("delete"), DiffOptions::expanded()))["field_changes"], json!([]));
}

#[test]
fn a_null_of_sql_is_told_from_a_null_of_json() {
    let nulls = |op: &str, json_nulls: Option<Vec<String>>| {
        let change = Change {
            data_after: Some(raw(r#"{"meta": null}"#)),
            changed_fields: Some(vec!["meta".to_owned()].into()),
            changed_from: Some(raw(r#"{"meta": {}}"#)),
            json_nulls: json_nulls.map(Into::into),
            ..change(op)
        };
        value(&Diff::with(&change, DiffOptions::expanded()))["field_changes"].clone()
    };
    let meta = || Some(vec!["meta".to_owned()]);
    assert_eq!(nulls("update", None), json!([{"name": "meta", "before": {}, "after": null}]));
    assert_eq!(
        nulls("update", meta()),
        json!([{"name": "meta", "before": {}, "after": null, "after_is_sql_null": true}])
    );
    assert_eq!(
        nulls("insert", meta()),
        json!([{"name": "meta", "after": null, "kind": "set", "after_is_sql_null": true}])
    );
}

#[test]
fn what_is_emptied_has_no_fields() {
    let diff = value(&Diff::with(&change("truncate"), DiffOptions::expanded()));
    assert_eq!((&diff["op"], &diff["field_changes"]), (&json!("TRUNCATE"), &json!([])));
}

/// A diff fails on no row that is stored.
#[test]
fn an_image_that_is_no_object_has_no_fields() {
    for image in ["null", "[1]", "\"a\"", "1"] {
        let change = Change {
            data_after: Some(raw(image)),
            data_before: Some(raw(image)),
            changed_from: Some(raw(image)),
            changed_fields: Some(vec!["a".to_owned()].into()),
            ..change("update")
        };
        assert_eq!(
            value(&Diff::of(&change))["field_changes"],
            json!([{"name": "a", "prior_state": "omitted", "after": null}])
        );
    }
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        "[1-9][0-9]{0,40}(\\.[0-9]{1,20})?",
        ".{0,8}".prop_map(|text| Value::from(text).to_string()),
        Just("null".to_owned()),
        Just(r#"{"b": [1.0, {"a": "}"}], "a": 2e400}"#.to_owned()),
        (1..300_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
    ]
}

proptest! {
    #[test]
    fn every_changed_field_is_there_once_in_order_and_as_it_was_stored(
        (image, changed, known) in prop::collection::btree_map(".{1,6}", (values(), values()), 1..8).prop_flat_map(|image| {
            let names: Vec<String> = image.keys().cloned().collect();
            let some = || subsequence(names.clone(), 0..=names.len());
            (Just(image), some().prop_shuffle(), some())
        })
    ) {
        let document = |members: BTreeMap<&String, &String>| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("{}: {value}", json!(name))).collect();
            raw(&format!("{{{}}}", members.join(", ")))
        };
        let change = Change {
            data_after: Some(document(image.iter().map(|(name, (after, _))| (name, after)).collect())),
            changed_from: Some(document(known.iter().map(|name| (name, &image[name].1)).collect())),
            // Once more: a list that somebody has filled otherwise.
            changed_fields: Some([&changed[..], &changed[..]].concat().into()),
            ..change("update")
        };
        let fields = Diff::of(&change).field_changes;
        let mut expected = changed.clone();
        expected.sort();
        prop_assert_eq!(fields.iter().map(|field| &field.name).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
        for field in fields {
            let (after, before) = &image[&field.name];
            let shown = field.after.unwrap();
            prop_assert_eq!(shown.get(), after);
            let is_known = known.contains(&field.name);
            prop_assert_eq!(field.before.map(|before| before.get().to_owned()), is_known.then(|| before.clone()));
            prop_assert_eq!(field.before_is_omitted, !is_known);
        }
    }
}
