//! What the claims of a token mean: who it is, what they see, and what they may do.

use std::collections::BTreeSet;

use common::{service::ServiceError, settings::JwtSettings};
use serde_json::{Map, Value};
use threadline::{ActorRef, ActorType, query::Scope};

use super::token::Claims;
use crate::{
    Capability, Grant,
    serve::{
        auth::{capabilities, is_storable, misused, scope},
        refused::Refused,
    },
};

/// Stands in the settings for every token.
const EVERY_TOKEN: &str = "*";

/// By the settings.
#[derive(Debug)]
pub(super) struct Mapping {
    actor_claim: String,
    actor_type: ActorType,
    label_claim: Option<String>,
    roles_claim: String,
    /// Each capability with the roles that allow it.
    allowing: Vec<(Capability, Vec<String>)>,
    everything: Vec<String>,
    scope_claim: Option<String>,
    scope_key: String,
}

impl Mapping {
    pub(super) fn of(settings: &JwtSettings) -> Result<Self, ServiceError> {
        let actor_type = settings.actor_type.parse().ok().filter(|kind| *kind != ActorType::Anonymous);
        let Some(actor_type) = actor_type else {
            return Err(misused(format!(
                "operator.auth.jwt.actor_type: {:?} is no type of actor with an id, such as user or admin",
                settings.actor_type
            )));
        };
        let named = capabilities("operator.auth.jwt.capabilities", settings.capabilities.keys())?;
        let own_name = Capability::ALL
            .into_iter()
            .filter(|capability| !named.contains(capability))
            .map(|capability| (capability, vec![capability.as_str().to_owned()]));
        let by_roles =
            named.iter().map(|capability| (*capability, settings.capabilities[capability.as_str()].clone()));
        Ok(Self {
            actor_claim: settings.actor_claim.clone(),
            actor_type,
            label_claim: settings.label_claim.clone(),
            roles_claim: settings.roles_claim.clone(),
            allowing: by_roles.chain(own_name).collect(),
            everything: settings.everything.clone(),
            scope_claim: settings.scope_claim.clone(),
            scope_key: settings.scope_key.clone(),
        })
    }

    /// What they may see and do. A token that does not say who it is for, or of which tenant, counts for nothing.
    pub(super) fn grant(&self, claims: &Claims) -> Result<Grant, Refused> {
        let claims = &claims.all;
        let id = text(claims, &self.actor_claim).ok_or(Refused::Actor)?;
        let actor =
            ActorRef::new(self.actor_type, Some(id)).ok().filter(is_storable).ok_or(Refused::Actor)?;
        let roles = words(claims, &self.roles_claim);
        let has_one_of = |names: &[String]| names.iter().any(|name| roles.contains(name.as_str()));
        let sees_everything =
            self.everything.iter().any(|name| name == EVERY_TOKEN) || has_one_of(&self.everything);
        let seen = if sees_everything {
            Scope::everything()
        } else {
            let tenant = self.scope_claim.as_deref().and_then(|claim| text(claims, claim));
            scope(&self.scope_key, tenant.ok_or(Refused::Scope)?)?
        };
        let allowed = self.allowing.iter().filter(|(_, names)| has_one_of(names));
        let grant = allowed.fold(Grant::new(actor, seen), |grant, (capability, _)| grant.allow(*capability));
        let label = self.label_claim.as_deref().and_then(|claim| text(claims, claim));
        Ok(match label {
            Some(label) => grant.label(label),
            None => grant,
        })
    }
}

/// A claim by its name, or, where that begins with a slash, by its JSON pointer.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let (first, rest) = pointer.split_once('/').map_or((pointer, ""), |(first, rest)| (first, rest));
    let value = claims.get(&unescaped(first))?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

/// A claim that is a text of its own, and not empty.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claim(claims, name)?.as_str().filter(|text| !text.trim().is_empty())
}

/// A claim that is a list of texts, or words with spaces between them.
fn words<'a>(claims: &'a Map<String, Value>, name: &str) -> BTreeSet<&'a str> {
    match claim(claims, name) {
        Some(Value::String(words)) => words.split_whitespace().collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::settings::Settings;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn granted(keys: &str, claims: &Value) -> Result<Grant, Refused> {
        let text = format!(
            "[operator.auth]\nkind = \"jwt\"\n[operator.auth.jwt]\njwks_file = \"/k\"\nissuer = \"i\"\naudience = \"a\"\n{keys}"
        );
        let settings = Settings::from_toml(&text).unwrap();
        let all = claims.as_object().unwrap().clone();
        let claims = Claims { all, ends_at: OffsetDateTime::now_utc() };
        Mapping::of(&settings.operator.auth.jwt).unwrap().grant(&claims)
    }

    #[test]
    fn roles_allow_capabilities_by_their_own_names_or_by_those_of_the_settings() {
        const KEYS: &str = "scope_claim = \"org\"\neverything = [\"audit-admin\"]\n\
                            [operator.auth.jwt.capabilities]\nexport = [\"Audit.Export\"]\ncoverage = [\"audit-admin\"]";
        let grant =
            granted(KEYS, &json!({"sub": "u1", "org": "t1", "roles": ["views", "Audit.Export"]})).unwrap();
        assert_eq!(grant.actor().to_string(), "user:u1");
        assert_eq!(grant.scope(), &Scope::of_context("tenant", "t1"));
        assert!(grant.allows(Capability::Views) && grant.allows(Capability::Export));
        assert!(!grant.allows(Capability::Coverage) && !grant.allows(Capability::Redrive));
        // What has an entry is no longer allowed by its own name.
        let grant = granted(KEYS, &json!({"sub": "u1", "roles": "audit-admin export"})).unwrap();
        assert!(grant.scope().is_everything() && grant.allows(Capability::Coverage));
        assert!(!grant.allows(Capability::Export) && !grant.allows(Capability::Pipeline));
    }

    #[test]
    fn a_token_that_does_not_say_who_or_of_which_tenant_counts_for_nothing() {
        const KEYS: &str = "scope_claim = \"org\"\neverything = [\"admin\"]";
        for (claims, refused) in [
            (json!({"org": "t1"}), Refused::Actor),
            (json!({"sub": "", "org": "t1"}), Refused::Actor),
            (json!({"sub": 7, "org": "t1"}), Refused::Actor),
            (json!({"sub": "u1"}), Refused::Scope),
            (json!({"sub": "u1", "org": " "}), Refused::Scope),
            (json!({"sub": "u1", "org": ["t1", "t2"]}), Refused::Scope),
            (json!({"sub": "u1", "roles": {"admin": true}}), Refused::Scope),
        ] {
            assert_eq!(granted(KEYS, &claims).unwrap_err(), refused, "{claims}");
        }
    }

    #[test]
    fn claims_within_others_and_names_with_slashes_are_found() {
        const KEYS: &str = "actor_claim = \"/user/id\"\nlabel_claim = \"/https:~1~1id.example~1name\"\nroles_claim = \"/realm_access/roles\"\n\
                            actor_type = \"admin\"\neverything = [\"*\"]";
        let claims = json!({"user": {"id": "a|1"}, "https://id.example/name": "Anna", "realm_access": {"roles": ["verify"]}});
        let grant = granted(KEYS, &claims).unwrap();
        assert_eq!((grant.actor().to_string().as_str(), grant.name()), ("admin:a|1", "Anna"));
        assert!(grant.allows(Capability::Verify) && !grant.allows(Capability::Evidence));
    }
}
