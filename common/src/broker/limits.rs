//! What a broker that answers refuses, and which setting it is about.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, Context},
};

use serde::Deserialize;

use super::{BrokerError, stored, tables::MESSAGE_MAX};
use crate::settings::BrokerSettings;

/// A request about an account that is not permitted gets no response at all.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream that is made on a broker with little room: about 200,000 references.
const SMALL: i64 = 64 << 20;

/// Refuses a server that takes no messages as large as ours. The client would not even send them.
pub(super) fn takes_messages(client: &Client) -> Result<(), BrokerError> {
    let limit = client.server_info().max_payload;
    if i64::try_from(limit).is_ok_and(|limit| limit < MESSAGE_MAX) {
        return Err(BrokerError::Refused {
            call: "take messages as large as ours",
            code: 0,
            words: format!("its max_payload is {limit} bytes"),
            remedy: format!(
                "set max_payload in the server's configuration to {MESSAGE_MAX} or more; without it it is 1 MiB"
            ),
        });
    }
    Ok(())
}

/// What the account has been given and uses. The client's type does not read the answers of nats-server 2.9.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    storage: i64,
    reserved_storage: i64,
    streams: i64,
    consumers: i64,
    limits: Limits,
}

/// Not above 0 means that there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
    storage_max_stream_bytes: i64,
}

impl Account {
    /// How many bytes it may use, where that is limited.
    pub(super) fn storage_max(&self) -> Option<i64> {
        // A limit by number of copies is not reported as one figure.
        (self.limits.max_storage > 0).then_some(self.limits.max_storage)
    }

    fn taken(&self) -> i64 {
        self.reserved_storage.max(self.storage)
    }
}

/// What the account has been given, where this user may ask.
pub(super) async fn account(context: &Context) -> Option<Account> {
    tokio::time::timeout(ACCOUNT_TIMEOUT, stored::account(context)).await.ok()?.ok()
}

/// An error of the broker with the setting that it is about, and with figures where they are known.
pub(super) async fn explained(
    context: &Context,
    settings: &BrokerSettings,
    call: &'static str,
    error: &jetstream::Error,
) -> BrokerError {
    let mut refused = BrokerError::refused(call, error);
    if let BrokerError::Refused { code, remedy, .. } = &mut refused
        && OUT_OF_STORAGE.contains(code)
    {
        *remedy = available_storage(settings, account(context).await.as_ref());
    }
    refused
}

/// Codes that say that there is no room for so large a stream.
const OUT_OF_STORAGE: [u64; 4] = [10_047, 10_023, 10_122, 10_002];

/// What to do about an error of the JetStream API, by its code.
pub(super) fn remedy(code: u64, words: &str) -> &'static str {
    match code {
        10_047 | 10_122 | 10_002 => {
            "set broker.max_bytes to less, or give the server more room (max_file_store in the section jetstream of its \
             configuration, or the limits of the account)"
        }
        10_023 => {
            "the server has no room left: give it more disk or a larger max_file_store, or set broker.max_bytes to less for a \
             stream that is not there yet"
        }
        10_028 => "give the server more memory for JetStream (max_memory_store), or the account",
        10_052 if words.contains("duplicate") => {
            "set broker.duplicate_window to no more than that, or raise limits.duplicate_window in the section jetstream of the \
             server's configuration"
        }
        10_052 if words.contains("max bytes") || words.contains("maximum bytes") => {
            "set broker.max_bytes to what the server allows"
        }
        10_052 => "see the section [broker] of the settings, and the limits in the server's configuration",
        10_074 => "set broker.replicas = 1, or run a cluster of NATS servers",
        10_005 => {
            "set broker.replicas to no more than the servers of the cluster that have JetStream and room, or bring the others back"
        }
        10_121 => {
            "set consumer.max_ack_pending to no more than the limit (consumer_limits of the stream, or the limits of the server or \
             the account)"
        }
        10_026 => {
            "remove unused consumers (`consumer doctor` names those of ours), or raise max_consumers of the stream or of \
             the account"
        }
        10_027 => "remove unused streams, or raise max_streams of the account",
        10_065 => {
            "set broker.subject to a subject that no stream takes, or broker.stream to the stream that takes it, if that is meant"
        }
        10_058 => "set broker.stream to a name that no stream has",
        10_113 => "set broker.max_bytes",
        10_054 => "raise max_msg_size of the stream with `nats stream edit`",
        10_076 | 10_039 => "start the server with JetStream (nats-server -js), and enable it for the account",
        _ => "see what the server's own log says",
    }
}

/// The most that fits, where it is known.
fn available_storage(settings: &BrokerSettings, account: Option<&Account>) -> String {
    let wanted = settings.max_bytes;
    let left = account.and_then(|account| {
        let (limit, taken) = (account.storage_max()?, account.taken());
        let copies = i64::try_from(settings.replicas).unwrap_or(1).max(1);
        Some((limit.saturating_sub(taken).max(0) / copies, limit, taken))
    });
    let figures = match left {
        Some((left, limit, taken)) => {
            format!(
                "the account may use {limit} bytes, and {taken} of them are taken: set broker.max_bytes = {left} or less"
            )
        }
        None => format!(
            "the server does not tell clients how much it has: set broker.max_bytes = {} or less (its default is the best part \
             of the disk; 64 MiB hold some 200,000 references)",
            (wanted / 2).clamp(1 << 20, SMALL)
        ),
    };
    format!(
        "broker.max_bytes is {wanted}; {figures}, or give the server more room (max_file_store in the section jetstream of its \
         configuration, or the limits of the account)"
    )
}

/// What the account's limits would refuse of a stream that is not there yet, and what to do about each.
pub(super) fn foreseen(
    client: &Client,
    settings: &BrokerSettings,
    account: &Account,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let clustered = client.server_info().cluster.is_some_and(|name| !name.is_empty());
    if settings.replicas > 1 && !clustered {
        let what = format!("broker.replicas is {}, and the server is not in a cluster", settings.replicas);
        found.push((what, remedy(10_074, "").to_owned()));
    }
    let limits = &account.limits;
    let copies = i64::try_from(settings.replicas).unwrap_or(1);
    let whole = settings.max_bytes.saturating_mul(copies);
    if account.storage_max().is_some_and(|limit| limit.saturating_sub(account.taken()) < whole) {
        found.push((
            format!("the account has no room for a stream of {whole} bytes"),
            available_storage(settings, Some(account)),
        ));
    }
    let limit = limits.storage_max_stream_bytes;
    if (1..settings.max_bytes).contains(&limit) {
        let what = format!(
            "the account allows streams of {limit} bytes, and broker.max_bytes is {}",
            settings.max_bytes
        );
        found.push((
            what,
            format!("set broker.max_bytes = {limit} or less, or raise the limit of the account"),
        ));
    }
    let full = |limit: i64, count: i64| limit > 0 && limit <= count;
    if full(limits.max_streams, account.streams) {
        let what = format!("the account may have no more than {} stream(s)", account.streams);
        found.push((what, remedy(10_027, "").to_owned()));
    }
    if full(limits.max_consumers, account.consumers) {
        let what = format!("the account may have no more than {} consumer(s)", account.consumers);
        found.push((what, remedy(10_026, "").to_owned()));
    }
    found
}
