//! Receipts: what a window of the timeline held when it was compared with its source, chained and, with a key, signed.
//!
//! A receipt is evidence against changes that come later: whoever alters, removes or slips in an action of a sealed window
//! changes its digest; whoever alters a receipt breaks the chain; whoever re-writes the chain needs the key, or must hope
//! that no one kept the hash of an earlier end of it ([`verify_chain`] takes one to look for).

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::{
    StorageSchema,
    capture::Refusal,
    signing::{SigningKey, bytes, hexadecimal, is_signed},
};

/// What stands for the receipt before the first.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWindow {
    /// The forwarder that filled the timeline.
    pub forwarder: String,
    /// Which table of which database of which cluster it was compared with.
    pub source: String,
    /// Its first moment.
    pub since: OffsetDateTime,
    /// The first moment behind it.
    pub until: OffsetDateTime,
    /// How many actions.
    pub actions: i64,
    /// Events that are dead letters instead, discarded or not.
    pub dead_letters: i64,
    /// When the oldest action happened.
    pub first_at: Option<OffsetDateTime>,
    /// The [digest](crate::digest) of the actions.
    pub digest: String,
}

/// A row of `audit_receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
#[non_exhaustive]
pub struct Receipt {
    /// Whose chain.
    pub forwarder: String,
    /// Its number, from 1.
    pub n: i64,
    /// Which source.
    pub source: String,
    /// The first moment of the window.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The first moment behind it.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// How many actions.
    pub actions: i64,
    /// Events that are dead letters instead, discarded or not. The column and the hashed text call them `letters`.
    #[sqlx(rename = "letters")]
    pub dead_letters: i64,
    /// When the oldest action happened.
    #[serde(with = "time::serde::rfc3339::option")]
    pub first_at: Option<OffsetDateTime>,
    /// Of the actions.
    pub digest: String,
    /// The hash of the receipt before this one.
    pub previous: String,
    /// When it was written, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub sealed_at: OffsetDateTime,
    /// Of all of the above.
    pub hash: String,
    /// The public key, in hexadecimal.
    pub key: Option<String>,
    /// Of the hash, in hexadecimal.
    pub signature: Option<String>,
}

impl Receipt {
    /// Seals a window behind the last receipt of its chain.
    #[must_use]
    pub fn seal(
        window: SealedWindow,
        last: Option<&Self>,
        sealed_at: OffsetDateTime,
        key: Option<&SigningKey>,
    ) -> Self {
        let mut receipt = Self {
            forwarder: window.forwarder,
            n: last.map_or(0, |last| last.n) + 1,
            source: window.source,
            // What comes back from the database must be what was hashed.
            since: microseconds(window.since),
            until: microseconds(window.until),
            actions: window.actions,
            dead_letters: window.dead_letters,
            first_at: window.first_at.map(microseconds),
            digest: window.digest,
            previous: last.map_or_else(|| BEGINNING.to_owned(), |last| last.hash.clone()),
            sealed_at: microseconds(sealed_at),
            hash: String::new(),
            key: key.map(SigningKey::public),
            signature: None,
        };
        receipt.hash = hexadecimal(&Sha256::digest(receipt.text()));
        receipt.signature = key.map(|key| hexadecimal(&key.sign(receipt.hash.as_bytes())));
        receipt
    }

    /// What is hashed: a line for each column.
    #[must_use]
    pub fn text(&self) -> String {
        let time = |time: OffsetDateTime| time.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default();
        let Self { forwarder, n, source, actions, dead_letters, digest, previous, .. } = self;
        format!(
            "threadline receipt 1\nforwarder {forwarder}\nn {n}\nsource {source}\nsince {}\nuntil {}\nactions {actions}\n\
             letters {dead_letters}\nfirst_at {}\ndigest {digest}\nprevious {previous}\nsealed_at {}\nkey {}\n",
            time(self.since),
            time(self.until),
            self.first_at.map(time).unwrap_or_default(),
            time(self.sealed_at),
            self.key.as_deref().unwrap_or_default(),
        )
    }

    fn is_signed_by_its_key(&self) -> bool {
        let (Some(key), Some(signature)) = (&self.key, &self.signature) else {
            return self.key.is_none() && self.signature.is_none();
        };
        bytes(signature).is_some_and(|signature| is_signed(key, self.hash.as_bytes(), &signature))
    }
}

/// Refuses to go on behind a receipt that was signed, `n`, with another key or with none: whoever verifies with the key of before would take the
/// whole chain for somebody else's from there on.
///
/// # Errors
/// `receipt_unsigned`, `receipt_key_changed`.
pub fn check_key_change(n: i64, before: Option<&str>, key: Option<&SigningKey>) -> Result<(), Refusal> {
    let Some(before) = before else { return Ok(()) };
    let (term, what) = match key.map(SigningKey::public) {
        Some(key) if key == before => return Ok(()),
        Some(key) => ("receipt_key_changed", format!("the next one would be signed with {key}")),
        None => ("receipt_unsigned", "the next one would not be signed".to_owned()),
    };
    let reason = format!(
        "receipt {n} is signed with {before}, and {what}: with the key of before alone the chain would not verify any more"
    );
    Err(Refusal::new(term, reason))
}

/// What is wrong with a chain, in words; nothing when it holds. `pinned` are the only keys that may have signed, if there are
/// any, `kept` the hash of a receipt that must be in it. A window may be sealed again, but not overlap another.
#[must_use]
pub fn verify_chain(chain: &[Receipt], pinned: &[String], kept: Option<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut previous = BEGINNING;
    let mut windows: Vec<(OffsetDateTime, OffsetDateTime)> = Vec::new();
    for (receipt, n) in chain.iter().zip(1..) {
        let mut fault = |what: &str| faults.push(format!("receipt {}: {what}", receipt.n));
        if receipt.n != n {
            fault("receipts before it are missing");
        }
        if receipt.hash != hexadecimal(&Sha256::digest(receipt.text())) {
            fault("it was changed: its hash is not that of its content");
        }
        if receipt.previous != previous {
            fault("the chain is broken: it does not follow the receipt before it");
        }
        let window = (receipt.since, receipt.until);
        if !windows.contains(&window) {
            if windows.iter().any(|(since, until)| window.0 < *until && *since < window.1) {
                fault("its window overlaps another");
            }
            windows.push(window);
        }
        if !receipt.is_signed_by_its_key() {
            fault("its signature is not valid");
        }
        if !pinned.is_empty() && receipt.key.as_ref().is_none_or(|key| !pinned.contains(key)) {
            fault("it was not signed with the given key");
        }
        previous = &receipt.hash;
    }
    if let Some(kept) = kept
        && chain.iter().all(|receipt| receipt.hash != kept)
    {
        faults.push(format!("no receipt has the hash {kept}: the chain was cut or written again"));
    }
    faults
}

/// The receipts of a forwarder, in order.
///
/// # Errors
/// When the server is away, or the table is not there.
pub async fn chain(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    forwarder: &str,
) -> Result<Vec<Receipt>, sqlx::Error> {
    let statement =
        format!("select * from {} where forwarder = $1 order by n", schema.table("audit_receipts"));
    sqlx::query_as(AssertSqlSafe(statement)).bind(forwarder).fetch_all(connection).await
}

/// Appends a receipt. The primary key refuses a second one behind the same receipt.
///
/// # Errors
/// When another process was first, the server is away, or the table is not there.
pub async fn append(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    receipt: &Receipt,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "insert into {} (forwarder, n, source, since, until, actions, letters, first_at, digest, previous, sealed_at,
                         hash, key, signature)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        schema.table("audit_receipts")
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(&receipt.forwarder)
        .bind(receipt.n)
        .bind(&receipt.source)
        .bind(receipt.since)
        .bind(receipt.until)
        .bind(receipt.actions)
        .bind(receipt.dead_letters)
        .bind(receipt.first_at)
        .bind(&receipt.digest)
        .bind(&receipt.previous)
        .bind(receipt.sealed_at)
        .bind(&receipt.hash)
        .bind(&receipt.key)
        .bind(&receipt.signature)
        .execute(connection)
        .await?;
    Ok(())
}

fn microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
    use time::macros::datetime;

    use super::*;

    fn key() -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        SigningKey::from_pkcs8(document.as_ref()).expect("a key")
    }

    fn chain(key: Option<&SigningKey>) -> Vec<Receipt> {
        let mut chain: Vec<Receipt> = Vec::new();
        for day in 1..=3 {
            let since = datetime!(2026-01-01 00:00 UTC) + time::Duration::days(day);
            let window = SealedWindow {
                forwarder: "timeline".into(),
                source: "1/app/public.audit_events".into(),
                since,
                until: since + time::Duration::days(1),
                actions: day,
                dead_letters: 0,
                first_at: Some(since),
                digest: format!("{day:064}"),
            };
            let receipt = Receipt::seal(window, chain.last(), since + time::Duration::days(2), key);
            chain.push(receipt);
        }
        chain
    }

    #[test]
    fn a_chain_that_nobody_touched_holds() {
        let key = key();
        assert_eq!(verify_chain(&chain(None), &[], None), Vec::<String>::new());
        let signed = chain(Some(&key));
        assert_eq!(verify_chain(&signed, &[key.public()], Some(&signed[1].hash)), Vec::<String>::new());
    }

    #[test]
    fn every_change_of_a_chain_is_found() {
        let ours = key();
        let public = ours.public();
        let faults = |change: &dyn Fn(&mut Vec<Receipt>)| {
            let mut chain = chain(Some(&ours));
            let kept = chain[2].hash.clone();
            change(&mut chain);
            verify_chain(&chain, std::slice::from_ref(&public), Some(&kept)).join("; ")
        };
        for (fault, found) in [
            ("its hash is not", faults(&|chain| chain[1].actions += 1)),
            ("its hash is not", faults(&|chain| chain[1].digest = chain[0].digest.clone())),
            ("its hash is not", faults(&|chain| chain[1].until += time::Duration::seconds(1))),
            ("are missing", faults(&|chain| drop(chain.remove(0)))),
            ("are missing", faults(&|chain| drop(chain.remove(1)))),
            ("was cut", faults(&|chain| drop(chain.pop()))),
            ("signature is not valid", faults(&|chain| chain[0].signature = chain[1].signature.clone())),
            ("not signed with the given key", faults(&|theirs| *theirs = chain(Some(&key())))),
            ("not signed with the given key", faults(&|theirs| *theirs = chain(None))),
            ("signature is not valid", faults(&|chain| chain[0].signature = None)),
        ] {
            assert!(found.contains(fault), "expected {fault:?}: {found}");
        }
    }
}
