//! Noticing that a connection is gone. The client reconnects and does not report that to callers that wait for a response
//! on the old one, which never comes.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{Client, connection::State};

/// How often it is checked.
const POLL: Duration = Duration::from_millis(50);

/// The connection that a client had at one moment.
#[derive(Debug)]
pub struct ConnectionEpoch {
    client: Client,
    /// How often the client had connected.
    connects: u64,
}

impl ConnectionEpoch {
    /// The one that `client` has now.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        Self { connects: connects(client), client: client.clone() }
    }

    /// Whether it is gone, be there a new one or none.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.client.connection_state() != State::Connected || connects(&self.client) != self.connects
    }

    /// Waits until it is gone.
    pub async fn ended(&self) {
        while !self.is_ended() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Waits until a client is connected, and calls `waiting` while it is not.
pub async fn connected(client: &Client, mut waiting: impl FnMut()) {
    while client.connection_state() != State::Connected {
        waiting();
        tokio::time::sleep(POLL).await;
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
