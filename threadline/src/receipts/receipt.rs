//! A receipt: its content, its hash, its signature.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, postgres::PgRow};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::counts::Counts;
use crate::{
    query::time_text,
    receipt::BEGINNING,
    signing::{SigningKey, bytes, hexadecimal, is_signed},
};

/// What was committed to the timeline between two snapshots of its database: a row of `threadline_receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Receipt {
    /// Its number, from 1.
    pub n: i64,
    /// System identifier / database / storage schema; characters of the names that control something are escaped.
    pub database: String,
    /// The [position](crate::query::Position) of the receipt before; the first one has none, and holds everything that was there.
    pub position_before: Option<String>,
    /// What is visible in it and was not in the one before.
    pub position: String,
    /// The database's clock, before the snapshot of the position before was taken.
    #[serde(with = "optional_time")]
    pub since: Option<OffsetDateTime>,
    /// The database's clock, before the snapshot of the position was taken: what was committed by then is in this receipt, or in one before.
    #[serde(with = "time_form")]
    pub until: OffsetDateTime,
    /// Captured transactions.
    pub transactions: i64,
    /// Changes.
    pub changes: i64,
    /// Actions that a host recorded.
    pub actions: i64,
    /// The SHA-256 of all leaves, in their order.
    pub digest: String,
    /// The hash of the receipt before, or 64 zeros.
    pub previous: String,
    /// When it was written, by the database's clock.
    #[serde(with = "time_form")]
    pub sealed_at: OffsetDateTime,
    /// The SHA-256 of [`Self::text`].
    pub hash: String,
    /// The public key, in hexadecimal.
    pub key: Option<String>,
    /// Ed25519, of the hash in hexadecimal.
    pub signature: Option<String>,
}

/// What a receipt is about.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    pub(super) database: String,
    pub(super) position: String,
    pub(super) until: OffsetDateTime,
    pub(super) counts: Counts,
    pub(super) digest: String,
    pub(super) sealed_at: OffsetDateTime,
}

impl Receipt {
    /// Behind the last receipt.
    pub(super) fn seal(interval: Interval, last: Option<&Self>, key: Option<&SigningKey>) -> Self {
        let Interval { database, position, until, counts, digest, sealed_at } = interval;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut receipt = Self {
            n: last.map_or(0, |last| last.n) + 1,
            database,
            position_before: last.map(|last| last.position.clone()),
            position,
            since: last.map(|last| last.until),
            until,
            transactions: count(counts.transactions),
            changes: count(counts.changes),
            actions: count(counts.actions),
            digest,
            previous: last.map_or_else(|| BEGINNING.to_owned(), |last| last.hash.clone()),
            sealed_at,
            hash: String::new(),
            key: key.map(SigningKey::public),
            signature: None,
        };
        receipt.hash = receipt.hash_of_text();
        receipt.signature = key.map(|key| hexadecimal(&key.sign(receipt.hash.as_bytes())));
        receipt
    }

    /// What is hashed: a line for each column. The first one names the version of the format, of leaves too.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { n, database, position, transactions, changes, actions, digest, previous, .. } = self;
        format!(
            "threadline timeline receipt 1\nn {n}\ndatabase {database}\nposition_before {}\nposition {position}\nsince {}\nuntil {}\n\
             transactions {transactions}\nchanges {changes}\nactions {actions}\ndigest {digest}\nprevious {previous}\nsealed_at {}\nkey {}\n",
            self.position_before.as_deref().unwrap_or_default(),
            self.since.map(time_text).unwrap_or_default(),
            time_text(self.until),
            time_text(self.sealed_at),
            self.key.as_deref().unwrap_or_default(),
        )
    }

    pub(super) fn hash_of_text(&self) -> String {
        hexadecimal(&Sha256::digest(self.text()))
    }

    /// A receipt without a key has no signature to be valid.
    pub(super) fn is_signed_by_its_key(&self) -> bool {
        let (Some(key), Some(signature)) = (&self.key, &self.signature) else {
            return self.key.is_none() && self.signature.is_none();
        };
        bytes(signature).is_some_and(|signature| is_signed(key, self.hash.as_bytes(), &signature))
    }

    /// How many rows; a count that is negative was written by somebody else.
    pub(super) fn counts(&self) -> Counts {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Counts {
            transactions: count(self.transactions),
            changes: count(self.changes),
            actions: count(self.actions),
        }
    }

    /// Of [`COLUMNS`].
    pub(super) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        // As integers: what somebody has put there may be no time of a driver's.
        let time = |at: usize| row.try_get_unchecked::<Option<i64>, _>(at).map(|time| time.map(time_of));
        let known = |time: Option<OffsetDateTime>| {
            time.ok_or_else(|| sqlx::Error::Decode("a receipt has no time".into()))
        };
        Ok(Self {
            n: row.try_get(0)?,
            database: row.try_get(1)?,
            position_before: row.try_get(2)?,
            position: row.try_get(3)?,
            since: time(4)?,
            until: known(time(5)?)?,
            transactions: row.try_get(6)?,
            changes: row.try_get(7)?,
            actions: row.try_get(8)?,
            digest: row.try_get(9)?,
            previous: row.try_get(10)?,
            sealed_at: known(time(11)?)?,
            hash: row.try_get(12)?,
            key: row.try_get(13)?,
            signature: row.try_get(14)?,
        })
    }
}

/// Of `threadline_receipts`.
pub(super) const COLUMNS: &str = "n, database, position_before, position, since, until, transactions, changes, actions, digest, previous, \
    sealed_at, hash, key, signature";

/// So many microseconds after the year 2000, clamped to what a time can be.
fn time_of(microseconds: i64) -> OffsetDateTime {
    let (first, last) = (datetime!(0001-01-01 00:00 UTC), datetime!(9999-12-31 23:59:59.999999 UTC));
    let time = datetime!(2000-01-01 00:00 UTC).checked_add(Duration::microseconds(microseconds));
    time.unwrap_or(if microseconds < 0 { first } else { last }).clamp(first, last)
}

/// A time as it is hashed.
mod time_form {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::time_text;

    pub(super) fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time_text(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
mod optional_time {
    use serde::{Deserialize, Deserializer, Serializer};
    use time::OffsetDateTime;

    use super::time_form;

    #[expect(clippy::ref_option, reason = "what serde hands over")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => time_form::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        #[derive(Deserialize)]
        struct Time(#[serde(with = "time_form")] OffsetDateTime);
        Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
    }
}
