//! What is done: each thing begins with an action that says so, in the same transaction, and is not done without it.

use sqlx::{Postgres, Transaction};
use threadline::{Action, AuditAction, Status, telemetry};
use uuid::Uuid;

use crate::{asked::Asked, failure::Failure};

/// Something that is being done.
pub(crate) struct Act {
    pub(crate) transaction: Transaction<'static, Postgres>,
    action: AuditAction,
}

impl Act {
    /// Done: it is committed together with its action, whose id is returned.
    pub(crate) async fn done(self) -> Result<Uuid, Failure> {
        self.transaction.commit().await?;
        telemetry::action_recorded(Status::Ok);
        Ok(self.action.id)
    }
}

impl Asked {
    /// An action of whoever asks.
    pub(crate) fn action(&self, name: &str) -> Action {
        Action::new(name, self.grant.actor().clone()).category("audit")
    }

    /// Begins something: its action is written first.
    pub(crate) async fn act(&self, action: Action) -> Result<Act, Failure> {
        let timeline = self.writer()?;
        let mut transaction = timeline.pool().begin().await?;
        let action = action.record(&mut transaction, timeline.schema()).await?;
        Ok(Act { transaction, action })
    }
}
