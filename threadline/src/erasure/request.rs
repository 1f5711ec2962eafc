//! Whom or what an erasure is about, and how it goes about it.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::policy::ErasurePolicy;
use crate::{
    ActorRef,
    batches::{PAUSE_MAX, pause_behind},
    capture::Refusal,
    query::{Key, Table},
    signing::hexadecimal,
};

/// Rows that one transaction visits, unless said otherwise.
pub const BATCH_SIZE: u32 = 500;

/// Rows that one transaction may visit.
pub const BATCH_SIZE_MAX: u32 = 10_000;

/// Characters of a reason.
pub const REASON_MAX: usize = 1_000;

/// Whom or what an erasure is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasure {
    /// A row of a host's table, under all keys that it has had.
    Row {
        /// The table.
        table: Table,
        /// The key.
        key: Key,
        /// Which columns; all but those of the key where there are none.
        columns: Vec<String>,
        /// Whether the key goes too, in filters of exports as well.
        key_too: bool,
    },
    /// Who has done something. The acts stay, and stay one actor's, whom filters of exports do not name any more.
    Actor {
        /// Who.
        actor: ActorRef,
        /// Whether contexts, reasons and comments go too.
        texts: bool,
    },
    /// A person, in all tables that the policy names: every change of a row that has named the person once, under that key and those that the
    /// row got later, whoever it belonged to then. What others made of it may hold the person's values.
    Person {
        /// What the subject columns hold of the person.
        id: String,
        /// Where.
        policy: ErasurePolicy,
    },
}

/// How an erasure goes about it. The defaults leave writers alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ErasureOptions {
    /// Why. A dry run needs none.
    pub reason: String,
    /// Who erases; without it the service account of the database's session user.
    pub actor: Option<ActorRef>,
    /// Counts, and writes nothing.
    pub dry_run: bool,
    /// Time of a statement of a dry run.
    pub dry_run_time: Duration,
    /// Rows that one transaction visits at most, 1 to [`BATCH_SIZE_MAX`].
    pub batch_size: u32,
    /// The shortest pause behind a batch that has erased something.
    pub sleep: Duration,
    /// The share of the time that batches may take, in percent, 1 to 100.
    pub busy_percent: u8,
    /// How long a statement waits for a lock that somebody holds, before the batch is given up.
    pub lock_timeout: Duration,
    /// How long such a batch is tried again, before the run fails.
    pub locked_limit: Duration,
}

impl ErasureOptions {
    /// For this reason.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            actor: None,
            dry_run: false,
            dry_run_time: Duration::from_secs(60),
            batch_size: BATCH_SIZE,
            sleep: Duration::from_millis(50),
            busy_percent: 50,
            lock_timeout: Duration::from_millis(200),
            locked_limit: Duration::from_secs(60),
        }
    }

    /// Counts alone.
    #[must_use]
    pub fn dry_run() -> Self {
        Self { dry_run: true, ..Self::because("") }
    }

    pub(super) fn pause(&self, took: Duration, has_erased: bool) -> Duration {
        let least = if has_erased { self.sleep } else { Duration::ZERO };
        pause_behind(took, self.busy_percent, least)
    }

    fn check(&self) -> Result<(), Refusal> {
        let refused = |reason: String| Err(Refusal::new("option_invalid", reason));
        if !(1..=BATCH_SIZE_MAX).contains(&self.batch_size) {
            return refused(format!("a batch has 1 to {BATCH_SIZE_MAX} rows, not {}", self.batch_size));
        }
        if !(1..=100).contains(&self.busy_percent) {
            return refused(format!("busy_percent is 1 to 100, not {}", self.busy_percent));
        }
        if self.sleep > PAUSE_MAX {
            return refused(format!("the pause between batches is at most {} s", PAUSE_MAX.as_secs()));
        }
        Ok(())
    }
}

impl Erasure {
    /// The kind, as a run records it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Row { .. } => "row",
            Self::Actor { .. } => "actor",
            Self::Person { .. } => "person",
        }
    }

    /// Refuses what cannot be erased, or would stand in the record of its own erasure.
    pub(super) fn check(&self, options: &ErasureOptions) -> Result<(), Refusal> {
        options.check()?;
        self.check_subject()?;
        if options.dry_run {
            return Ok(());
        }
        let reason = options.reason.trim();
        if reason.is_empty() || reason.contains('\0') || reason.chars().count() > REASON_MAX {
            let what = format!("the reason has 1 to {REASON_MAX} characters");
            return Err(Refusal::new("reason_missing", what).hint("such as \"request 4711 of 2026-05-15\""));
        }
        if self.texts().iter().any(|text| names(reason, text)) {
            let what = "the reason holds what is to be erased, and it stays in the timeline";
            return Err(Refusal::new("reason_names_subject", what)
                .hint("give the number of the request, and not whom or what it is about"));
        }
        let is_subject = |actor: &ActorRef| match self {
            Self::Actor { actor: erased, .. } => actor == erased,
            Self::Person { id, .. } => actor.id() == Some(id),
            Self::Row { .. } => false,
        };
        if options.actor.as_ref().is_some_and(is_subject) {
            let what = "whoever is erased would stand in the record of the erasure as who erases";
            return Err(Refusal::new("actor_is_subject", what)
                .hint("say another --actor, or none for the service account of the database's user"));
        }
        Ok(())
    }

    fn check_subject(&self) -> Result<(), Refusal> {
        let refused = |what: &str| Err(Refusal::new("subject_invalid", what));
        match self {
            Self::Actor { actor, .. } if actor.id().is_none() => {
                refused("an anonymous actor has no id that could be erased")
            }
            Self::Person { id, .. } if id.is_empty() || id.contains('\0') => {
                refused("the id of a person is a text that is not empty")
            }
            Self::Person { policy, .. } if policy.tables.is_empty() && policy.actor.is_none() => {
                Err(Refusal::new("policy_missing", "the policy names no table and no type of an actor")
                    .hint("[erasure.tables] \"public.users\" = { subject = \"id\", columns = [\"email\"] }"))
            }
            _ => Ok(()),
        }
    }

    /// The texts that name it.
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Row { key: Key::Value(value), .. } => vec![value],
            Self::Row { key: Key::Columns(columns), .. } => columns.values().map(String::as_str).collect(),
            Self::Actor { actor, .. } => actor.id().into_iter().collect(),
            Self::Person { id, .. } => vec![id],
        }
    }

    /// Which tables and columns, and what else there is to choose: nothing of whom it is about.
    pub(super) fn policy(&self, table: Option<&str>) -> Value {
        match self {
            Self::Row { columns, key_too, .. } => {
                let columns = if columns.is_empty() { Value::Null } else { json!(columns) };
                let of = json!({"columns": columns, "key_too": key_too});
                json!({"tables": {table.unwrap_or_default(): of}})
            }
            Self::Actor { texts, .. } => json!({"texts": texts}),
            Self::Person { policy, .. } => policy.to_json(),
        }
    }
}

/// Below this length a text counts as a word of a reason alone: the number 7 stands in many of them.
const WORD_MAX: usize = 4;

/// Whether a reason holds a text, in upper or lower case.
fn names(reason: &str, text: &str) -> bool {
    let (reason, text) = (reason.to_lowercase(), text.trim().to_lowercase());
    if text.is_empty() {
        return false;
    }
    if text.chars().count() >= WORD_MAX {
        return reason.contains(&text);
    }
    reason.split(|c: char| !c.is_alphanumeric()).any(|word| word == text) || reason == text
}

/// The hash by which a run finds its subject again.
pub(super) fn subject_hash(salt: &str, subject: &str) -> String {
    let digest = Sha256::new_with_prefix(salt).chain_update("\n").chain_update(subject).finalize();
    hexadecimal(&digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_holds_what_is_erased_is_refused() {
        for (reason, text, expected) in [
            ("request of Jane@Example.org", "jane@example.org", true),
            ("request 4711", "4711", true),
            ("request 4711", "7", false),
            ("request 7 of May", "7", true),
            ("row a7", "7", false),
            ("a-1", "a-1", true),
            ("request", "", false),
        ] {
            assert_eq!(names(reason, text), expected, "{reason} {text}");
        }
    }
}
