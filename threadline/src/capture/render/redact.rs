//! What of a row may be stored: one expression, used for every column of the timeline that holds values of a row.

use super::{Capture, array, literal};

impl Capture {
    /// What may be stored of an image.
    pub(super) fn redact(&self, image: &str) -> String {
        let policy = &self.policy;
        let dropped = [&policy.exclude[..], &self.table.virtual_columns()].concat();
        let kept = if dropped.is_empty() {
            image.to_owned()
        } else {
            format!("{image} operator(pg_catalog.-) {}", array(&dropped))
        };
        let redacted = policy.redacted();
        if redacted.is_empty() {
            return kept;
        }
        let placeholder = serde_json::Value::from(policy.mask_placeholder.as_str()).to_string();
        let placeholder = format!("{}::pg_catalog.jsonb", literal(&placeholder));
        let mut replaced: Vec<String> =
            policy.mask.iter().map(|column| format!("{}, {placeholder}", literal(column))).collect();
        replaced.extend(
            policy.hash.iter().map(|column| format!("{}, {}", literal(column), self.hashed(image, column))),
        );
        replaced.extend(self.masked_documents(image, &placeholder));
        let shown = if replaced.is_empty() {
            format!("({kept})")
        } else {
            format!("({kept}) operator(pg_catalog.||) pg_catalog.jsonb_build_object({})", replaced.join(", "))
        };
        let harmless: Vec<String> =
            self.table.column_names().into_iter().filter(|column| !redacted.contains(column)).collect();
        // A column that was renamed is not found any more, and its values are under a name that was not checked.
        format!(
            "case when {image} operator(pg_catalog.?&) {} then {shown} else {}({kept}, {}, {placeholder}) end",
            array(&redacted),
            self.ours("threadline_mask_unknown"),
            array(&harmless)
        )
    }

    /// The hash of a value with the id of its key; the placeholder when there is no such key; null stays null.
    fn hashed(&self, image: &str, column: &str) -> String {
        let value = format!("{image} operator(pg_catalog.->>) {}", literal(column));
        format!(
            "case when {value} is not null then coalesce({} operator(pg_catalog.||) {}({}, {value}), {}) end",
            literal(&format!("hmac:{}:", self.policy.hash_key)),
            self.ours("threadline_hmac"),
            literal(&self.policy.hash_key),
            literal(&self.policy.mask_placeholder)
        )
    }

    /// Documents with masked places. One that is no more than a text may be anything, and is masked as a whole.
    fn masked_documents(&self, image: &str, placeholder: &str) -> Vec<String> {
        let mut columns: Vec<&String> = self.policy.paths.iter().map(|path| &path[0]).collect();
        columns.sort();
        columns.dedup();
        let masked = |column: &String| {
            let value = format!("{image} operator(pg_catalog.->) {}", literal(column));
            let below = self.policy.paths.iter().filter(|path| path[0] == *column);
            let document = below.fold(value.clone(), |document, path| {
                format!(
                    "{}({document}, {}, {placeholder})",
                    self.ours("threadline_mask_path"),
                    array(&path[1..])
                )
            });
            format!(
                "{}, case when pg_catalog.jsonb_typeof({value}) operator(pg_catalog.=) 'string' then {placeholder} \
                 else {document} end",
                literal(column)
            )
        };
        columns.into_iter().map(masked).collect()
    }
}
