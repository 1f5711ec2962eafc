//! Up to where the timeline has been read. What is new behind a position is decided by snapshots, never by a clock.

use std::{fmt, str::FromStr};

use sqlx::{PgConnection, Row as _};

use super::{
    ReadError,
    snapshot::{self, NUMBER, Snapshot},
    statement::Statement,
};
use crate::StorageSchema;

/// How often a database may have been restored into another cluster: numbers of transactions that are given out again are looked for.
const RESTORES_MAX: i64 = 7;

/// Up to where the timeline has been read; as a text it can be kept, and gone on from in the same cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    snapshot: Snapshot,
    /// The table of actions: a rebuild puts another one in its place.
    actions: i64,
}

impl Position {
    /// The snapshot of the connection's transaction, or of this statement.
    ///
    /// # Errors
    /// `standby`, and what the database says.
    pub(crate) async fn now(
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<Self, ReadError> {
        let mut now = Statement::new("select pg_current_snapshot()::text, ");
        now.bind(schema.table("audit_actions")).push("::regclass::oid::int8, pg_is_in_recovery()");
        let row = now.query().fetch_one(connection).await?;
        if row.try_get(2)? {
            let reason = "a standby does not say which transactions are running, so some would be missed: ask the primary";
            return Err(ReadError::unusable("standby", reason));
        }
        let text: String = row.try_get(0)?;
        let snapshot =
            text.parse().map_err(|()| sqlx::Error::Decode(format!("{text:?} is no snapshot").into()))?;
        Ok(Self { snapshot, actions: row.try_get(1)? })
    }

    /// Whether the transaction of this number was visible in it.
    pub(crate) fn sees(&self, txid: i64) -> bool {
        self.snapshot.sees(txid & NUMBER)
    }

    /// Whether the table of actions was the same one.
    pub(crate) fn has_table_of(&self, other: &Self) -> bool {
        self.actions == other.actions
    }

    /// Whether `later` may be a position of the same cluster behind this one: numbers of transactions only grow.
    pub(crate) fn may_precede(&self, later: &Self) -> bool {
        self.snapshot.next() <= later.snapshot.next()
    }

    /// Whether `later` is certainly behind this one, in the same cluster.
    #[must_use]
    pub fn precedes(&self, later: &Self) -> bool {
        self.snapshot.next() < later.snapshot.next()
    }

    /// The number of the next transaction.
    pub(crate) fn next(&self) -> i64 {
        self.snapshot.next()
    }

    /// That a row of `alias`, a transaction or an action, is visible in the snapshot of `to`, and was not in this one's; null where the row
    /// has no number. What ran then is sought one by one, however long it takes; everything else is newer. A number that another cluster
    /// gave out, before a restore, is on a row that this one wrote before: such a row is not new. Where such a number is given out again,
    /// the transaction is captured under one that is 2^48 further. What did not run then is looked for from the number `since` on, which is this
    /// position's [`Self::next`] for all of it.
    pub(crate) fn push_is_new(&self, to: &Self, since: i64, alias: &str, statement: &mut Statement) {
        let (from, to) = (&self.snapshot, &to.snapshot);
        statement
            .push(&format!("({alias}.txid = any ("))
            .bind(from.running_text(RESTORES_MAX))
            .push("::int8[])");
        for restores in 0..=RESTORES_MAX {
            statement
                .push(&format!(" or {alias}.txid >= "))
                .bind(since + (restores << 48))
                .push(&format!(" and {alias}.txid < "))
                .bind(to.next() + (restores << 48));
        }
        statement
            .push(&format!(") and pg_visible_in_snapshot(({alias}.txid & {NUMBER})::text::xid8, "))
            .bind(to.to_string())
            .push("::pg_snapshot) and ");
        snapshot::push_written_here(
            alias,
            |statement| {
                statement.bind(from.next());
            },
            statement,
        );
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.snapshot, self.actions)
    }
}

impl FromStr for Position {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let parsed = text.split_once('~').and_then(|(snapshot, actions)| {
            Some(Self { snapshot: snapshot.parse().ok()?, actions: actions.parse().ok()? })
        });
        parsed.ok_or_else(|| {
            ReadError::unusable(
                "invalid_position",
                format!("{text:?} is no position of a tail: give one that a tail has named"),
            )
        })
    }
}
