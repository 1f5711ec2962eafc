//! The newest changes of keys, those that a key was given up with among them.

use sqlx::Row as _;

use super::super::statement::Statement;
use super::{
    At, ReadError, Reader,
    entry::{self, ACTION, CHANGE, Change, TRANSACTION},
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// Changes of a key that are read at first: nearly always they are enough.
const FIRST: i64 = 4;

/// Changes of one key in one transaction that are put in order.
const ORDERED_MAX: i64 = 200;

/// The newest changes of a key up to a time.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Those of the newest transaction, in no particular order.
    pub(super) group: Vec<Change>,
    /// The newest one of an earlier transaction.
    pub(super) before: Option<Box<Change>>,
}

/// A place in the order of changes: adopted ones have no position, and stand in the order of their ids where times are equal.
pub(super) fn place(change: &Change) -> (time::OffsetDateTime, i64, uuid::Uuid) {
    (change.captured_at, change.position, change.id)
}

impl Reading<'_> {
    /// The newest changes of each of the keys, which are as they are stored.
    pub(super) async fn heads(
        &mut self,
        sources: &[Source],
        keys: Vec<String>,
        at: &At,
    ) -> Result<Vec<Head>, ReadError> {
        let mut heads = Vec::with_capacity(keys.len());
        let changes = self.newest(sources, &keys, at, FIRST).await?;
        for (changes, key) in changes.into_iter().zip(keys) {
            let mut head = Head::new(changes);
            // There may be more of the newest transaction.
            if i64::try_from(head.group.len()).is_ok_and(|read| read >= FIRST) {
                let changes = self.newest(sources, &[key], at, ORDERED_MAX + 1).await?;
                head = Head::new(changes.into_iter().next().unwrap_or_default());
            }
            heads.push(head);
        }
        Ok(heads)
    }

    async fn newest(
        &mut self,
        sources: &[Source],
        keys: &[String],
        at: &At,
        limit: i64,
    ) -> Result<Vec<Vec<Change>>, ReadError> {
        let statement = self.reader.newest_statement(sources, keys, at, limit);
        let mut changes: Vec<Vec<Change>> = keys.iter().map(|_| Vec::new()).collect();
        for row in self.fetch_all(&statement).await? {
            let number: i64 = row.try_get("number")?;
            if let Some(of_key) = usize::try_from(number - 1).ok().and_then(|index| changes.get_mut(index)) {
                of_key.push(entry::change(&row)?);
            }
        }
        Ok(changes)
    }
}

impl Reader {
    /// For each key its newest changes, and the newest ones that it was given up with. The latter come in the order of an index that
    /// there is none of, so that the small one of key changes is taken.
    pub(super) fn newest_statement(
        &self,
        sources: &[Source],
        keys: &[String],
        at: &At,
        limit: i64,
    ) -> Statement {
        let mut statement =
            Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION}, k.number from unnest("));
        statement.bind(keys.to_vec()).push("::text[]) with ordinality k (key, number) cross join ");
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (");
        for (number, (column, order)) in
            [("table_pk", "c.captured_at desc, c.id desc"), ("key_before", "c.position desc")]
                .into_iter()
                .enumerate()
        {
            statement.push(if number == 0 { "(select c.*" } else { " union all (select c.*" });
            self.push_visible(&mut statement);
            statement
                .push(of_source(sources))
                .push(&format!(" and c.{column} = k.key::jsonb and c.captured_at <= "))
                .bind(at.as_str())
                .push(&format!("::timestamptz order by {order} limit "))
                .bind(limit)
                .push(")");
        }
        statement.push(") c");
        self.push_joins(&mut statement);
        statement
    }
}

impl Head {
    fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| std::cmp::Reverse(place(change)));
        let Some(transaction) = changes.first().map(|newest| newest.transaction_id) else {
            return Self::default();
        };
        let (group, others): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.transaction_id == transaction);
        Self { group, before: others.into_iter().next().map(Box::new) }
    }
}
