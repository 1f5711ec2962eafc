//! Undoing what was captured: a plan in SQL, for people to review and to run. Planning reads, and never writes.
//!
//! A plan has one statement for each row, however often a transaction has changed it: from what the last change left, back to what was
//! there before the first. What a change wrote and is no longer there is left alone and listed, field by field, with whatever else
//! cannot be restored. Statements come in the reverse order of capture: a row that was inserted goes when its insert is reached, one that
//! was deleted comes back when its delete is. What gives a key up comes before what takes it, and a row before those that refer to it.

mod current;
mod draft;
mod image;
mod keys;
mod net;
mod reason;
mod replaced;
mod restore;
mod script;
mod sequence;
mod target;
mod value;

use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{
    Change, Json, ReadError, Reader,
    entry::{self, ACTION, CHANGE, TRANSACTION},
    statement::Statement,
};

/// Changes that a plan undoes at most.
pub const CHANGES_MAX: u16 = 10_000;

/// What is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// One change.
    Change(Uuid),
    /// All changes of a captured transaction that can be seen.
    Transaction(Uuid),
}

/// What would undo it, and what cannot be undone. A row that a transaction has made and removed again is in neither.
#[derive(Debug, Clone, Serialize)]
pub struct UndoPlan {
    /// In the order in which they have to run.
    pub statements: Vec<Step>,
    /// What stays as it is, and why.
    pub refused: Vec<Refused>,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// It sets fields of a row back.
    Update,
    /// It inserts a row that was deleted.
    Insert,
    /// It deletes a row that was inserted.
    Delete,
}

/// A statement that undoes what became of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The changes that it undoes, the newest first.
    pub changes: Vec<Uuid>,
    /// `schema.table`.
    pub table: String,
    /// The key by which it finds the row; of an insert, the key that the row gets.
    pub key: Json,
    /// What it does.
    pub kind: StepKind,
    /// The columns that it sets; none of a delete.
    pub fields: Vec<String>,
    /// What whoever reviews it should know.
    pub notes: Vec<String>,
    /// The statement. It is a part of [`UndoPlan::to_sql`]: alone it does less where the row is not what it was, and says nothing.
    pub sql: String,
}

/// What stays as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// The changes that would have had to be undone, the newest first.
    pub changes: Vec<Uuid>,
    /// `schema.table`.
    pub table: String,
    /// The key of the row.
    pub key: Json,
    /// The column; none where it is the whole row.
    pub field: Option<String>,
    /// What programs can rely on: `conflict`, `redacted`, `before_unknown` and others.
    pub term: &'static str,
    /// Why, and what can be done.
    pub reason: String,
    /// Of a conflict, what the last of the changes wrote.
    pub wrote: Option<Json>,
    /// Of a conflict, what is there now. Only for whoever sees everything: the row may belong to somebody else by now.
    pub now: Option<Json>,
}

impl Reader {
    /// A plan that undoes a change, or all changes of a transaction. It runs nothing.
    ///
    /// # Errors
    /// When there is no such change that can be seen, when there are more than [`CHANGES_MAX`], and what the database says.
    pub async fn undo_plan(&self, of: Undo) -> Result<UndoPlan, ReadError> {
        let mut connection = self.connection().await?;
        let mut snapshot =
            connection.begin_with("begin transaction isolation level repeatable read read only").await?;
        // Rows of the host's are read, whose locks others may wait for.
        sqlx::query(
            "select set_config('statement_timeout', '10000', true), set_config('lock_timeout', '2000', true)",
        )
        .persistent(false)
        .execute(&mut *snapshot)
        .await?;
        current::render_as_captured(&mut snapshot).await?;
        let plan = self.plan_undo(&mut snapshot, of).await;
        snapshot.rollback().await?;
        plan
    }

    async fn plan_undo(&self, snapshot: &mut PgConnection, of: Undo) -> Result<UndoPlan, ReadError> {
        let changes = self.changes_to_undo(snapshot, of).await?;
        if changes.is_empty() {
            let reason = "there is no such change, or it cannot be seen; check the id";
            return Err(ReadError::unusable("not_found", reason));
        }
        if changes.len() > usize::from(CHANGES_MAX) {
            let reason = format!("it has more than {CHANGES_MAX} changes; undo them one by one");
            return Err(ReadError::unusable("too_many_changes", reason));
        }
        let targets = target::read(snapshot, &self.schema, &changes).await?;
        let (nets, mut refused) = net::nets(&changes, &targets);
        let nets = replaced::not_replaced(snapshot, &self.schema, nets, &mut refused).await?;
        let drafts =
            draft::drafts(snapshot, nets, &targets, self.scope.is_everything(), &mut refused).await?;
        let drafts = restore::restorable(snapshot, drafts, &mut refused).await?;
        let drafts = sequence::in_order(drafts, &mut refused);
        let statements = drafts.iter().map(script::step).collect();
        Ok(UndoPlan { statements, refused })
    }

    /// In the order of capture.
    async fn changes_to_undo(&self, snapshot: &mut PgConnection, of: Undo) -> Result<Vec<Change>, ReadError> {
        let changes = self.schema.table("audit_changes");
        let mut statement =
            Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION} from {changes} c"));
        self.scope.push_joins(&self.schema, &mut statement);
        statement.push(" where ");
        match of {
            Undo::Change(id) => statement.push("c.id = ").bind(id),
            Undo::Transaction(id) => statement.push("c.transaction_id = ").bind(id),
        };
        statement.push(" and (");
        self.scope.push_changes(&mut statement);
        statement.push(") order by c.position, c.captured_at, c.id limit ").bind(i64::from(CHANGES_MAX) + 1);
        let rows = statement.fetch_all(snapshot).await?;
        Ok(rows.iter().map(entry::change).collect::<Result<_, _>>()?)
    }
}
