//! What a job is to export, and how that is kept in its row.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{JobError, steps::Names};
use crate::{
    ActorRef,
    export::Options,
    query::{Filter, Scope},
    storage::Location,
};

/// The version of what is stored.
const VERSION: u32 = 1;

/// An export that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// Which entries. Times that it gives from now on count from the moment at which the export begins.
    pub filter: Filter,
    /// What it looks like.
    pub options: Options,
    /// Below which place it is stored.
    pub storage: Location,
    /// On whose behalf; without, the service account of whoever is connected.
    pub actor: Option<ActorRef>,
    /// Not before; without, at once.
    pub due_at: Option<OffsetDateTime>,
}

impl JobRequest {
    /// At once, in the name of whoever is connected.
    #[must_use]
    pub fn new(filter: Filter, options: Options, storage: Location) -> Self {
        Self { filter, options, storage, actor: None, due_at: None }
    }
}

/// What a row keeps of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    version: u32,
    /// As a text of filters.
    pub(super) filter: String,
    pub(super) options: Options,
    scope: Value,
    pub(super) storage: Location,
}

impl Stored {
    /// # Errors
    /// What of the request cannot be exported, and `scope_not_storable`.
    pub(super) fn of(request: &JobRequest, scope: &Scope) -> Result<Self, JobError> {
        request.filter.check()?;
        request.options.check(&request.filter)?;
        // What is too long with the names of what is stored is refused now.
        request.storage.join(Names::of(Uuid::nil(), i32::MAX, request.options.format).longest())?;
        let scope = scope.store().ok_or_else(|| {
            let reason = "the scope has a condition of the program's own, which no row can hold: export at once, or describe the scope by its context, columns, tables or names of actions";
            JobError::refused("scope_not_storable", reason)
        })?;
        let filter = request.filter.to_string();
        Ok(Self {
            version: VERSION,
            filter,
            options: request.options.clone(),
            scope,
            storage: request.storage.clone(),
        })
    }

    /// # Errors
    /// `request_invalid` for what this version does not know: whoever guesses may show too much.
    pub(super) fn read(stored: &str) -> Result<Self, JobError> {
        let invalid = |why: &str| {
            let reason = format!("what the job is to export cannot be read: {why}. Add it again");
            JobError::refused("request_invalid", reason)
        };
        let stored: Self =
            serde_json::from_str(stored).map_err(|_| invalid("it is no request of this version"))?;
        if stored.version != VERSION {
            return Err(invalid("it is of another version"));
        }
        Ok(stored)
    }

    /// Whose entries.
    ///
    /// # Errors
    /// `request_invalid`.
    pub(super) fn scope(&self) -> Result<Scope, JobError> {
        Scope::restore(&self.scope).ok_or_else(|| {
            JobError::refused(
                "request_invalid",
                "the scope of the job cannot be read, and nothing is shown: add the job again",
            )
        })
    }

    pub(super) fn to_json(&self) -> String {
        json!(self).to_string()
    }
}

/// The filter as the keys and values of a URL, as the Elixir library keeps it.
pub(super) fn query_params(filter: &Filter) -> String {
    json!(filter).to_string()
}
