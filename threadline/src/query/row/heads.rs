//! The newest changes of keys, those that a key was given up with among them.

use sqlx::Row as _;

use super::super::statement::Statement;
use super::{
    At, ReadError, Reader,
    entry::{self, ACTION, CHANGE, Change, TRANSACTION},
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// Changes of a key that are read: nearly always the first few are enough.
const STAGES: [usize; 3] = [FIRST, 32, 200];

/// Changes of a key that are read at first.
pub(super) const FIRST: usize = 4;

/// A place in the order of changes: adopted ones have no position, and stand in the order of their ids where times are equal.
pub(super) fn place(change: &Change) -> (time::OffsetDateTime, i64, uuid::Uuid) {
    (change.captured_at, change.position, change.id)
}

impl Reading<'_> {
    /// The newest changes of each of the keys, which are as they are stored: as many as it takes to put those of the newest
    /// transaction in order.
    pub(super) async fn heads(
        &mut self,
        sources: &[Source],
        keys: &[String],
        at: &At,
    ) -> Result<Vec<Vec<Change>>, ReadError> {
        let mut heads: Vec<Vec<Change>> = keys.iter().map(|_| Vec::new()).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        for limit in STAGES {
            if open.is_empty() {
                break;
            }
            let of_open: Vec<String> = open.iter().map(|index| keys[*index].clone()).collect();
            let changes =
                self.newest(sources, &of_open, at, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
            for (index, changes) in open.iter().zip(changes) {
                heads[*index] = changes;
            }
            open.retain(|index| is_open(&heads[*index], limit));
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
        let under_it = ("c.table_pk = k.key::jsonb", "c.captured_at desc, c.id desc");
        // Where keys were erased, both may be the same.
        let given_up = ("c.key_before = k.key::jsonb and c.table_pk <> k.key::jsonb", "c.position desc");
        for (number, (is_of_key, order)) in [under_it, given_up].into_iter().enumerate() {
            statement.push(if number == 0 { "(select c.*" } else { " union all (select c.*" });
            self.push_visible(&mut statement);
            statement
                .push(of_source(sources))
                .push(&format!(" and {is_of_key} and c.captured_at <= "))
                .bind(at.as_str())
                .push(&format!("::timestamptz order by {order} limit "))
                .bind(limit)
                .push(")");
        }
        statement.push(") c");
        self.scope.push_joins(&self.schema, &mut statement);
        statement
    }
}

/// Whether more has to be read: several changes of a transaction are put in order by what was before them.
fn is_open(changes: &[Change], limit: usize) -> bool {
    let newest = changes.iter().max_by_key(|change| place(change));
    let group = changes
        .iter()
        .filter(|change| newest.is_some_and(|newest| newest.transaction_id == change.transaction_id));
    let group = group.count();
    // Beyond the first stage only where nearly all is of one transaction.
    group > 1 && changes.len() >= limit && (limit == FIRST || group + 2 >= changes.len())
}
