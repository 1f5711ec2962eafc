//! Records that this program makes of what it has seen or done itself.
//!
//! Whoever may insert into the table can write the same: what a record says of its origin is as good as the rights on the table.

use serde_json::{Map, Value};

use crate::query::canonical::members;
use serde_json::value::RawValue;

/// What stands as `product` in the provenance of such a record. The Elixir library writes no product.
pub const PRODUCT: &str = "threadline-rust";

/// Which part of this program made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entrypoint {
    /// `threadline verify-coverage` and `threadline health coverage`.
    Coverage,
    /// `threadline policy show`.
    Policy,
    /// An export.
    Export,
    /// A purge.
    Purge,
    /// An erasure.
    Erase,
    /// A receipt.
    Seal,
    /// The doctor.
    Doctor,
}

impl Entrypoint {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Coverage, Self::Policy, Self::Export, Self::Purge, Self::Erase, Self::Seal, Self::Doctor];

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coverage => "coverage",
            Self::Policy => "policy",
            Self::Export => "export",
            Self::Purge => "purge",
            Self::Erase => "erase",
            Self::Seal => "seal",
            Self::Doctor => "doctor",
        }
    }

    /// What is stored of the origin of such a record.
    pub(super) fn provenance(self) -> Map<String, Value> {
        let origin = [
            ("writer", "threadline"),
            ("entrypoint", self.as_str()),
            ("product", PRODUCT),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        origin.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
    }
}

/// Whether a provenance is that of such a record: writer, product and one of the entry points, and some version.
pub(super) fn is_machine_made(provenance: &RawValue) -> bool {
    let members = members(provenance);
    let text = |key: &str| -> Option<String> { serde_json::from_str(members.get(key)?.get()).ok() };
    let entrypoint = text("entrypoint");
    text("writer").as_deref() == Some("threadline")
        && text("product").as_deref() == Some(PRODUCT)
        && text("version").is_some_and(|version| !version.is_empty())
        && Entrypoint::ALL.iter().any(|one| entrypoint.as_deref() == Some(one.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_machine_made_where_all_of_its_origin_says_so() {
        let is = |provenance: &Value| {
            let raw = RawValue::from_string(provenance.to_string()).expect("JSON");
            is_machine_made(&raw)
        };
        for entrypoint in Entrypoint::ALL {
            let whole = Value::Object(entrypoint.provenance());
            assert!(is(&whole), "{whole}");
            for key in ["writer", "entrypoint", "product", "version"] {
                for other in [json!(null), json!("record_trigger_coverage"), json!(""), json!(7)] {
                    let mut changed = whole.clone();
                    changed[key] = other.clone();
                    let is_some_version =
                        key == "version" && other.as_str().is_some_and(|text| !text.is_empty());
                    assert_eq!(is(&changed), is_some_version, "{changed}");
                }
            }
        }
        for odd in [json!(null), json!([]), json!("threadline"), json!({})] {
            assert!(!is(&odd), "{odd}");
        }
    }
}
