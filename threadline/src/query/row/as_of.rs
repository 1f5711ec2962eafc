//! What a row was at a time.

use serde::Serialize;

use super::super::statement::Statement;
use super::{
    At, ReadError, Reader, Row,
    entry::{self, ACTION, CHANGE, Change, Json, TRANSACTION},
    heads::place,
    image::{self, RowKey},
    lineage::LINEAGE_MAX,
    order::{self, Effect},
    reading::Reading,
    source::{Source, of_source, push_sources},
    truncates::Truncates,
};

/// What a row was at a time.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AsOf {
    /// It was there.
    Present {
        /// All of it, but for what is never captured, as PostgreSQL prints it.
        image: Json,
        /// Columns of type `json` or `jsonb` that were null in SQL; all others that show `null` held JSON's.
        sql_nulls: Vec<String>,
        /// What made it so.
        change: Box<Change>,
    },
    /// It had been deleted, or its table emptied.
    Deleted {
        /// What did so.
        change: Box<Change>,
    },
    /// It had another key by then.
    Moved {
        /// The row under that key.
        row: Row,
        /// What changed the key.
        change: Box<Change>,
    },
    /// It did not have this key yet.
    NotYet {
        /// The row under the key that it had before.
        row: Row,
        /// What changed the key later.
        change: Box<Change>,
    },
    /// No change up to then is known: it may not have been there, or not been captured.
    BeforeHorizon,
}

/// A row at a time, under the key that it had then.
#[derive(Debug, Clone, Serialize)]
pub struct Followed {
    /// The row under that key.
    pub row: Row,
    /// What it was.
    pub as_of: AsOf,
    /// Why the last change of its key was not followed; none where there is no other key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_followed: Option<NotFollowed>,
}

/// Why a change of a key was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFollowed {
    /// The key was changed more often than [`LINEAGE_MAX`] times.
    TooOften,
    /// Another row was inserted under the other key meanwhile: which one this is, is not known.
    UsedAgain,
    /// The other key is one that was followed already.
    CameBack,
}

impl AsOf {
    /// The change that decides; none before the horizon.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Present { change, .. }
            | Self::Deleted { change }
            | Self::Moved { change, .. }
            | Self::NotYet { change, .. } => Some(change),
            Self::BeforeHorizon => None,
        }
    }

    /// The row, where it was there.
    #[must_use]
    pub fn image(&self) -> Option<&Json> {
        match self {
            Self::Present { image, .. } => Some(image),
            _ => None,
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub fn term(&self) -> &'static str {
        match self {
            Self::Present { .. } => "present",
            Self::Deleted { .. } => "deleted",
            Self::Moved { .. } => "moved",
            Self::NotYet { .. } => "not_yet",
            Self::BeforeHorizon => "before_horizon",
        }
    }
}

impl Reader {
    /// What was under the key of a row at a time, by the newest change up to then that can be seen.
    ///
    /// Within a transaction what a trigger of the host's changed again counts as last, whatever was captured first. A row between two
    /// partitions is still what it was before it moved.
    ///
    /// # Errors
    /// What the database says.
    pub async fn as_of(&self, row: &Row, at: &At) -> Result<AsOf, ReadError> {
        Reading::begin(self, None).await?.as_of(row, at).await
    }

    /// What a row was at a time, under whatever key it had then: key changes are followed, as often as [`LINEAGE_MAX`] times.
    ///
    /// # Errors
    /// What the database says.
    pub async fn as_of_followed(&self, row: &Row, at: &At) -> Result<Followed, ReadError> {
        Reading::begin(self, None).await?.as_of_followed(row, at).await
    }
}

/// What is under a key, by its newest changes.
#[derive(Debug)]
pub(super) enum Latest {
    Nothing,
    Is(Box<Change>, Effect),
}

impl Reading<'_> {
    pub(super) async fn as_of_followed(&mut self, row: &Row, at: &At) -> Result<Followed, ReadError> {
        let mut followed =
            Followed { row: row.clone(), as_of: self.as_of(row, at).await?, not_followed: None };
        let mut keys = vec![row.key.clone()];
        while let AsOf::Moved { row: next, .. } | AsOf::NotYet { row: next, .. } = &followed.as_of {
            let next = next.clone();
            followed.not_followed = if keys.contains(&next.key) {
                Some(NotFollowed::CameBack)
            } else if keys.len() > LINEAGE_MAX {
                Some(NotFollowed::TooOften)
            } else if self.was_used_again(&next, &followed.as_of, at).await? {
                Some(NotFollowed::UsedAgain)
            } else {
                None
            };
            if followed.not_followed.is_some() {
                break;
            }
            keys.push(next.key.clone());
            followed = Followed { as_of: self.as_of(&next, at).await?, row: next, not_followed: None };
        }
        Ok(followed)
    }

    /// Whether a row was inserted under the other key between the change of the key and the time.
    async fn was_used_again(&mut self, other: &Row, as_of: &AsOf, at: &At) -> Result<bool, ReadError> {
        let (AsOf::Moved { change, .. } | AsOf::NotYet { change, .. }) = as_of else { return Ok(false) };
        let (later, earlier) =
            if matches!(as_of, AsOf::Moved { .. }) { (" > ", " <= ") } else { (" < ", " > ") };
        let mut statement = Statement::new("select c.id from ");
        push_sources(&other.sources, &mut statement);
        statement.push(" cross join lateral (select c.id");
        self.reader.push_visible(&mut statement);
        statement
            .push(of_source(&other.sources))
            .push(" and c.table_pk = ")
            .bind(other.key_json())
            .push("::jsonb and c.op = 'insert' and c.transaction_id <> ")
            .bind(change.transaction_id)
            .push(&format!(" and (c.captured_at, c.position){later}("))
            .bind(&change.captured_text)
            .push("::timestamptz, ")
            .bind(change.position)
            .push(&format!(") and c.captured_at{earlier}"))
            .bind(at.as_str())
            .push("::timestamptz limit 1) c");
        Ok(!self.fetch_all(&statement).await?.is_empty())
    }

    pub(super) async fn as_of(&mut self, row: &Row, at: &At) -> Result<AsOf, ReadError> {
        let head = self.heads(&row.sources, &[row.key_json()], at).await?.pop().unwrap_or_default();
        let oldest = head.iter().min_by_key(|change| place(change));
        let Some(oldest) = oldest else { return self.not_yet(row, at).await };
        // Earlier ones say what a single transaction began with.
        let is_one = head.iter().all(|change| change.transaction_id == oldest.transaction_id);
        let from = (head.len() == 1 || !is_one).then_some(oldest);
        let truncates = self.truncates(&row.sources, from, at).await?;
        self.as_of_head(row, head, &truncates, at).await
    }

    /// What a row was, by the newest changes of its key.
    pub(super) async fn as_of_head(
        &mut self,
        row: &Row,
        head: Vec<Change>,
        truncates: &Truncates,
        at: &At,
    ) -> Result<AsOf, ReadError> {
        let Latest::Is(change, effect) = self.latest(&row.sources, head, &row.key, truncates, at).await?
        else {
            return Ok(AsOf::BeforeHorizon);
        };
        Ok(match (effect, image::key(&change.table_pk)) {
            (Effect::Departure, Some(key)) => AsOf::Moved { row: row.with_key(key), change },
            (Effect::Arrival | Effect::Update, _) if change.data_after.is_some() => present(change),
            _ => AsOf::Deleted { change },
        })
    }

    /// The change that decides what is under a key.
    async fn latest(
        &mut self,
        sources: &[Source],
        changes: Vec<Change>,
        key: &RowKey,
        truncates: &Truncates,
        at: &At,
    ) -> Result<Latest, ReadError> {
        // Within a transaction that empties its table too, only what came after that is put in order by it.
        let is_emptied =
            |change: &Change| truncates.of(change).is_some_and(|truncate| place(change) < place(truncate));
        let (earlier, later): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(is_emptied);
        // A table that was emptied before begins with nothing.
        let start = earlier
            .iter()
            .chain(&later)
            .min_by_key(|change| place(change))
            .and_then(|first| truncates.of(first));
        let start = start.filter(|_| earlier.is_empty()).cloned();
        let mut ordered = order::replay(earlier, None, key);
        let emptied = ordered
            .last()
            .filter(|last| Effect::of(last, key).is_present())
            .and_then(|last| truncates.of(last))
            .cloned();
        ordered.extend(emptied);
        let later = order::replay(later, ordered.last().or(start.as_ref()), key);
        ordered.extend(later);
        while let Some(change) = ordered.pop() {
            let effect = Effect::of(&change, key);
            // What was before one half of a move, still is.
            if effect == Effect::Removal && self.is_half_of_a_move(sources, &change, at).await? {
                continue;
            }
            return Ok(Latest::Is(Box::new(change), effect));
        }
        Ok(Latest::Nothing)
    }

    /// Whether a delete is what a partition loses when a row moves to another one, where that has not come yet: the next change of its
    /// transaction inserts a row there.
    async fn is_half_of_a_move(
        &mut self,
        sources: &[Source],
        delete: &Change,
        at: &At,
    ) -> Result<bool, ReadError> {
        if delete.op != "delete" || (delete.partition.is_none() && sources.len() < 2) {
            return Ok(false);
        }
        let statement = self.next_statement(sources, delete, at);
        let rows = self.fetch_all(&statement).await?;
        let next =
            rows.iter().map(entry::change).collect::<Result<Vec<_>, _>>()?.into_iter().min_by_key(place);
        Ok(next.is_some_and(|next| {
            let is_elsewhere = next.partition != delete.partition || next.table_name != delete.table_name;
            // A move that changes the key as well comes at once.
            let is_its_own = next.table_pk.get() == delete.table_pk.get()
                || next.captured_at - delete.captured_at < time::Duration::seconds(1);
            next.op == "insert" && is_elsewhere && is_its_own
        }))
    }

    /// Changes of the same transaction that came soon after a time.
    fn next_statement(&self, sources: &[Source], delete: &Change, at: &At) -> Statement {
        let mut statement = Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION} from "));
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (select c.*");
        self.reader.push_visible(&mut statement);
        statement
            // Said so, the index of the table alone is in order.
            .push(" and c.table_name <= s.name and (c.table_name, c.captured_at) > (s.name, ")
            .bind(at.as_str())
            .push("::timestamptz) order by c.table_name, c.captured_at, c.id limit ")
            .bind(SOON)
            .push(") c");
        self.reader.scope.push_joins(&self.reader.schema, &mut statement);
        statement
            .push(" where c.transaction_id = ")
            .bind(delete.transaction_id)
            .push(" and (c.position > ")
            .bind(delete.position)
            .push(" or c.position = 0)")
            .push(of_source(sources));
        statement
    }

    /// What there is to say of a row of which nothing is known up to a time.
    async fn not_yet(&mut self, row: &Row, at: &At) -> Result<AsOf, ReadError> {
        let mut statement = Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION} from "));
        push_sources(&row.sources, &mut statement);
        statement.push(" cross join lateral (select c.*");
        self.reader.push_visible(&mut statement);
        statement
            .push(of_source(&row.sources))
            .push(" and c.table_pk = ")
            .bind(row.key_json())
            .push("::jsonb and c.captured_at > ")
            .bind(at.as_str())
            .push("::timestamptz order by c.captured_at, c.id limit 1) c");
        self.reader.scope.push_joins(&self.reader.schema, &mut statement);
        let rows = self.fetch_all(&statement).await?;
        let changes = rows.iter().map(entry::change).collect::<Result<Vec<_>, _>>()?;
        let first = changes.into_iter().min_by_key(place);
        Ok(match first.map(|change| (image::key_before(&change), change)) {
            Some((Some(key), change)) => AsOf::NotYet { row: row.with_key(key), change: Box::new(change) },
            _ => AsOf::BeforeHorizon,
        })
    }
}

/// Changes among which the other half of a move is sought.
const SOON: i64 = 50;

fn present(change: Box<Change>) -> AsOf {
    match change.data_after.clone() {
        Some(image) => {
            AsOf::Present { image, sql_nulls: change.json_nulls.clone().unwrap_or_default().into(), change }
        }
        None => AsOf::Deleted { change },
    }
}
