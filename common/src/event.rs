//! The audit row, as a forwarder sees it.

use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// The columns that are read as text, in the order of the fields.
pub const TEXT_COLUMNS: [&str; 11] = [
    "action",
    "outcome",
    "actor_id",
    "actor_type",
    "target_id",
    "target_type",
    "organization_id",
    "effective_user_id",
    "ip_address",
    "user_agent",
    "metadata",
];

/// Those of them without which an event becomes no action. Here, and not at the forwarder, because `publisher attach`, which
/// knows none, warns of what the default one will need.
pub const NEEDED_BY_THREADLINE: [&str; 1] = ["action"];

/// One committed row of the source table, reloaded at delivery.
///
/// Everything that an application could have written by plain SQL must fit: strings are open sets, columns of older
/// installations may be absent (`None`), and times outside the years 1 to 9999 are clamped to that range.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AuditEvent {
    /// The row's primary key.
    pub id: Uuid,
    /// When it happened, to the microsecond.
    pub occurred_at: Option<OffsetDateTime>,
    /// When the application built the insert; not the commit time.
    pub inserted_at: Option<OffsetDateTime>,
    /// Dotted name, such as `auth.login.success`.
    pub action: Option<String>,
    /// `success`, `failure` or `error`; anything else is possible.
    pub outcome: Option<String>,
    /// Who acted; `None` for anonymous events.
    pub actor_id: Option<String>,
    /// What kind of actor, free text.
    pub actor_type: Option<String>,
    /// What was acted on.
    pub target_id: Option<String>,
    /// The kind of target.
    pub target_type: Option<String>,
    /// The tenant.
    pub organization_id: Option<String>,
    /// The impersonated user, where there is one.
    pub effective_user_id: Option<String>,
    /// Where from. Personal data.
    pub ip_address: Option<String>,
    /// With what. Personal data.
    pub user_agent: Option<String>,
    /// The row's JSON, byte for byte as PostgreSQL prints it.
    pub metadata: Option<Box<RawValue>>,
}

impl AuditEvent {
    /// An event of this action; all else is absent. For tests of forwarders, such as those of the conformance suite.
    #[must_use]
    pub fn new(id: Uuid, action: impl Into<String>) -> Self {
        Self { id, action: Some(action.into()), ..Self::default() }
    }

    /// A string under `key` at the top level of the metadata; `None` when it is absent, not a string, or one that PostgreSQL
    /// stores as JSON only and as no text: it holds `\u0000` or half of a surrogate pair.
    #[must_use]
    pub fn metadata_string(&self, key: &str) -> Option<String> {
        let text = self.metadata.as_deref()?.get();
        // Most rows carry `{}` or a few unrelated keys: a substring test is cheaper than parsing them all. A key may be escaped.
        if !text.contains(key) && !text.contains("\\u") {
            return None;
        }
        let object: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        serde_json::from_str(object.get(key)?.get()).ok().filter(|text: &String| !text.contains('\0'))
    }

    /// The bytes this event holds in memory, roughly; what batches are bounded by.
    #[must_use]
    pub fn size_in_memory(&self) -> usize {
        let texts = [
            &self.action,
            &self.outcome,
            &self.actor_id,
            &self.actor_type,
            &self.target_id,
            &self.target_type,
            &self.organization_id,
            &self.effective_user_id,
            &self.ip_address,
            &self.user_agent,
        ];
        size_of::<Self>()
            + texts.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
            + self.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_metadata(json: &str) -> AuditEvent {
        AuditEvent {
            metadata: Some(RawValue::from_string(json.to_owned()).expect("valid JSON")),
            ..AuditEvent::default()
        }
    }

    #[test]
    fn only_strings_at_the_top_level_are_read_from_metadata() {
        assert_eq!(
            with_metadata(r#"{"reason":"sso \"x\""}"#).metadata_string("reason").as_deref(),
            Some("sso \"x\"")
        );
        assert_eq!(with_metadata(r#"{"\u0072eason":"x"}"#).metadata_string("reason").as_deref(), Some("x"));
        for json in ["{}", r#"{"reason":7}"#, r#"{"a":{"reason":"x"}}"#, r#"["reason"]"#, r#""reason""#] {
            assert_eq!(with_metadata(json).metadata_string("reason"), None, "{json}");
        }
    }

    #[test]
    fn a_string_of_the_metadata_that_no_text_column_holds_counts_as_absent() {
        for json in [r#"{"reason":"a\u0000b"}"#, r#"{"reason":"a\ud800b"}"#, r#"{"reason":"a\udc00"}"#] {
            assert_eq!(with_metadata(json).metadata_string("reason"), None, "{json}");
        }
    }
}
