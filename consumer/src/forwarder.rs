//! What a forwarder is, and which kinds there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use common::settings::ConfigureError;
use common::{
    doctor::{Check, Problem, checks::TARGET_UNREACHABLE},
    event::{AuditEvent, TEXT_COLUMNS},
    failures::Reason,
    settings::{ForwarderSettings, Settings},
};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is in the target now.
    Delivered,
    /// It was there before: a redelivery without effect.
    AlreadyDelivered,
    /// A fault of this event that may pass: tried again after a wait, up to the configured attempts.
    Retry(String),
    /// It can never be delivered: a dead letter.
    DeadLetter(Reason, String),
}

impl Verdict {
    /// Whether the target has the event.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered | Self::AlreadyDelivered)
    }
}

/// Why a batch came back without verdicts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The target is away, overloaded, shutting down, or refuses us: says nothing about any event. The batch is held
    /// and tried again; no attempt is used.
    #[error("{error}")]
    Unavailable {
        /// Which target, and its own words.
        error: String,
        /// When it asked to be called again, if it did.
        retry_after: Option<Duration>,
    },
    /// The target refused the data. Of a batch, the half that holds the offender is searched for; a single event is
    /// a dead letter with reason `schema_mismatch`.
    #[error("{0}")]
    Rejected(String),
    /// The target failed, by one event or for all: the forwarder cannot say which. Of a batch, the half that holds the offender is
    /// searched for. A single event is a dead letter with reason `schema_mismatch` only once the target has taken others;
    /// until then it is held and put off without a charge.
    #[error("{0}")]
    Failed(String),
}

impl ForwardError {
    /// A target that is away and does not say for how long.
    #[must_use]
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::Unavailable { error: error.into(), retry_after: None }
    }
}

/// A sink for events. Each worker has one of its own, so it may hold a connection.
///
/// Events may be delivered again, at any time, in any order and to another worker: writing one twice must have the effect of
/// writing it once. The event's id is the key to that. A future that is dropped (time-out, shutdown) must leave the
/// forwarder usable; after a panic it is replaced by a new one.
pub trait Forwarder: Send {
    /// Writes a batch; returns one verdict per event, in order.
    ///
    /// # Errors
    /// When there is no verdict on single events. Then nothing may be assumed about what was written.
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>>;

    /// Those of these events that the target has. Asked for events whose audit row is gone: what arrived before is no loss.
    /// A target that cannot say returns none.
    ///
    /// # Errors
    /// When the target is away.
    fn find_delivered<'a>(
        &'a mut self,
        events: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Uuid>, ForwardError>> {
        let _ = events;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Whether the target serves this forwarder, found out without any event and on a connection of its own. Called where the same
    /// events have found it [away](ForwardError::Unavailable) three times in a row, or for long: if it serves others, one of the
    /// events may be at fault, and halves are tried. A forwarder that cannot tell returns `false`, and no further check is made.
    fn is_serving(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
}

/// A forwarder whose options have been checked.
pub trait ForwarderFactory: Send + Sync {
    /// A forwarder for one worker. Connects when first used, not here.
    fn build(&self) -> Box<dyn Forwarder>;

    /// The columns of audit rows that it looks at, of [`TEXT_COLUMNS`]; the others are not read and stay `None`. Times and id
    /// are always there.
    fn columns(&self) -> &[&str] {
        &TEXT_COLUMNS
    }

    /// Those of its [columns](Self::columns) without which it can deliver nothing: a table that lacks one is refused at boot.
    fn required_columns(&self) -> &[&str] {
        &[]
    }

    /// Of the column `metadata`, the keys of its top level under which it looks for strings; `None` for the whole document. A
    /// few bytes on disk may be a gigabyte as text: what is not looked at is not asked for.
    fn metadata_keys(&self) -> Option<&[&str]> {
        None
    }

    /// Names the place it writes to, if writing there from two forwarders would be a mistake.
    fn target(&self) -> BoxFuture<'_, Result<Option<String>, ForwardError>> {
        Box::pin(async { Ok(None) })
    }

    /// Checks the target, without any effect there: at boot, and when a doctor is asked for. An error keeps the consumer
    /// from starting.
    fn preflight(&self) -> BoxFuture<'_, Preflight> {
        Box::pin(async move {
            let (target, found) = match self.target().await {
                Ok(target) => (target, None),
                Err(error) => {
                    let remedy = "see that the target is there and lets this process in";
                    (None, Some(Problem::new(error.to_string(), remedy)))
                }
            };
            Preflight { target, checks: vec![(TARGET_UNREACHABLE, found)] }
        })
    }

    /// A check that takes longer, when a doctor is asked for.
    fn preflight_thorough(&self) -> BoxFuture<'_, Option<(&'static Check, Option<Problem>)>> {
        Box::pin(std::future::ready(None))
    }
}

/// What the checks of a target have found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Preflight {
    /// Its [name](ForwarderFactory::target), if it has one.
    pub target: Option<String>,
    /// The checks that were made, with what they found.
    pub checks: Vec<(&'static Check, Option<Problem>)>,
}

impl Preflight {
    /// A target with its name, and the checks that were made, with what they found.
    #[must_use]
    pub fn new(target: Option<String>, checks: Vec<(&'static Check, Option<Problem>)>) -> Self {
        Self { target, checks }
    }
}

/// Makes forwarders out of settings.
pub trait ForwarderKind: Send + Sync {
    /// Checks the options of one `[[forwarder]]`.
    ///
    /// # Errors
    /// Naming the option and what is expected.
    fn configure(
        &self,
        forwarder: &ForwarderSettings,
        settings: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError>;
}

/// Reads the options of a kind; unknown ones are refused if the type says `deny_unknown_fields`.
///
/// # Errors
/// Naming the option.
pub fn options<T: DeserializeOwned>(forwarder: &ForwarderSettings) -> Result<T, ConfigureError> {
    serde_path_to_error::deserialize(forwarder.options.clone()).map_err(|error| {
        let key = error.path().to_string();
        ConfigureError::new(forwarder, format!("{key}: {}", error.into_inner().message()))
    })
}

/// The forwarders of the settings, ready to start.
pub type Forwarders = Vec<(ForwarderSettings, Arc<dyn ForwarderFactory>)>;

/// The kinds by name.
#[derive(Default)]
pub struct Registry {
    kinds: BTreeMap<String, Box<dyn ForwarderKind>>,
}

impl Registry {
    /// Adds a kind of the host's own, or replaces one.
    pub fn register(&mut self, name: &str, kind: impl ForwarderKind + 'static) {
        self.kinds.insert(name.to_owned(), Box::new(kind));
    }

    /// Whether there is a kind of this name.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    /// Checks all forwarders of the settings. One of a built-in kind that this binary was built without is skipped with
    /// one warning: nothing takes its place, and the others run. Its options are not shown; they may hold secrets.
    ///
    /// # Errors
    /// The first option that cannot be used, or kind that there is not.
    pub fn configure(
        &self,
        settings: &Settings,
        missing: MissingKinds,
    ) -> Result<Forwarders, ConfigureError> {
        let mut configured = Vec::new();
        for forwarder in &settings.forwarder {
            if let Some(kind) = self.kinds.get(&forwarder.kind) {
                configured.push((forwarder.clone(), kind.configure(forwarder, settings)?));
                continue;
            }
            if missing == MissingKinds::Refused && !is_built_in(&forwarder.kind) {
                return Err(ConfigureError::new(forwarder, self.unknown(&forwarder.kind)));
            }
            tracing::warn!(
                forwarder = %forwarder.id,
                kind = %forwarder.kind,
                "this binary has no forwarder of that kind: skipped. Build it with the cargo feature of that name, \
                 or register the kind"
            );
        }
        Ok(configured)
    }

    /// The error text for an unknown kind.
    pub(crate) fn unknown(&self, kind: &str) -> String {
        let mut known: Vec<&str> = self.kinds.keys().map(String::as_str).chain(BUILT_IN).collect();
        known.sort_unstable();
        known.dedup();
        format!(
            "there is no kind {kind:?} (there are {}). Correct it; or let the binary that registers it run these settings; or, \
             where some processes are not to have it, start them with --allow-missing-kinds, and they skip it",
            known.join(", ")
        )
    }
}

/// The built-in kinds, whether this binary has them or not.
const BUILT_IN: [&str; 3] = ["noop", "threadline", "webhook"];

/// Whether this is a built-in kind, which another binary may have.
pub(crate) fn is_built_in(kind: &str) -> bool {
    BUILT_IN.contains(&kind)
}

/// What becomes of a forwarder of an unknown kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingKinds {
    /// It is a mistake.
    Refused,
    /// Another binary has it: skipped with a warning.
    Skipped,
}

#[cfg(test)]
mod tests {
    use common::settings::Layers;

    use super::*;
    use crate::kinds;

    fn configure(file: &str, missing: MissingKinds) -> Result<Vec<String>, String> {
        let (settings, _) = Layers::default().text(file, "audit.toml").expect("TOML").build().expect("valid");
        let configured = Registry::with_built_in().configure(&settings, missing);
        let forwarders = configured.map_err(|error| error.to_string())?;
        Ok(forwarders.into_iter().map(|(forwarder, _)| forwarder.id.to_string()).collect())
    }

    const OF_THE_HOST: &str = "[[forwarder]]\nid = \"siem\"\nkind = \"of-the-host\"\nsecret = \"hunter2\"\n\
                               [[forwarder]]\nid = \"nothing\"\nkind = \"noop\"";

    #[test]
    fn a_forwarder_of_a_kind_that_another_binary_has_is_skipped_where_that_is_said_and_the_others_run() {
        assert_eq!(configure(OF_THE_HOST, MissingKinds::Skipped), Ok(vec!["nothing".to_owned()]));
    }

    #[test]
    fn a_kind_that_there_is_not_is_refused_by_name_with_those_that_there_are() {
        let error = configure(OF_THE_HOST, MissingKinds::Refused).expect_err("no such kind");
        assert!(error.starts_with("forwarder siem: there is no kind \"of-the-host\""), "{error}");
        assert!(error.contains("noop, threadline, webhook") && !error.contains("hunter2"), "{error}");
        for kind in ["threadlin", "Webhook", "noop ", ""] {
            let file = format!("[[forwarder]]\nid = \"a\"\nkind = \"{kind}\"");
            let error = configure(&file, MissingKinds::Refused).expect_err("no such kind");
            assert!(error.contains(&format!("no kind {kind:?}")), "{error}");
        }
    }

    #[test]
    fn a_kind_that_comes_along_and_was_not_built_in_is_skipped() {
        let mut registry = Registry::default();
        registry.register("noop", kinds::Noop);
        let file =
            "[[forwarder]]\nid = \"a\"\nkind = \"webhook\"\n[[forwarder]]\nid = \"b\"\nkind = \"noop\"";
        let (settings, _) = Layers::default().text(file, "audit.toml").expect("TOML").build().expect("valid");
        let forwarders =
            registry.configure(&settings, MissingKinds::Refused).expect("a binary without its feature");
        assert_eq!(forwarders.len(), 1);
    }

    #[test]
    fn unknown_options_of_a_known_kind_are_refused_by_name() {
        let error =
            configure("[[forwarder]]\nid = \"nothing\"\nkind = \"noop\"\ncolour = 1", MissingKinds::Refused)
                .expect_err("unknown");
        assert!(error.starts_with("forwarder nothing: colour: unknown field `colour`"), "{error}");
    }
}
