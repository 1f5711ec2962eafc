//! Whether the stream is still the one that this leadership began with, and holds what it acknowledged.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{Context as JetStream, stream::Info};
use common::{
    broker::{self, microseconds},
    outbox::reader::rounds::{self, STREAM_READER},
    session::Session,
    settings::BrokerSettings,
};
use time::OffsetDateTime;

/// The stream as the first run of a leadership found it.
#[derive(Debug, Default)]
pub(super) struct StreamCheck {
    created: Option<OffsetDateTime>,
}

/// What was known before the stream was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    created: OffsetDateTime,
    /// The highest sequence that had been acknowledged.
    acknowledged: Option<u64>,
}

/// Why what the stream held must be published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamLoss {
    /// It was deleted, and created again by another process.
    Recreated,
    /// It ends before what it acknowledged.
    EndMissing,
    /// It begins behind what the pipeline has trimmed.
    Purged,
}

impl StreamCheck {
    /// What has been acknowledged by now; `None` if there is no stream. Must precede [`Expected::compare`]: what is acknowledged between
    /// the two must not look like a loss.
    ///
    /// # Errors
    /// When a server is away.
    pub(super) async fn expect(
        &mut self,
        connection: &mut Session,
        context: &JetStream,
        name: &str,
    ) -> anyhow::Result<Option<Expected>> {
        if let Some(created) = self.created {
            let acknowledged =
                rounds::acknowledged_before(connection, STREAM_READER, microseconds(created), Duration::ZERO)
                    .await?;
            return Ok(Some(Expected { created, acknowledged }));
        }
        self.created = stream_info(context, name).await?.map(|info| info.created);
        Ok(self.created.map(|created| Expected { created, acknowledged: None }))
    }
}

impl Expected {
    /// The stream as it is now; `None` if it is gone, recreated, purged, cut short, or has settings with which nothing may be
    /// published.
    ///
    /// # Errors
    /// When a server is away.
    pub(super) async fn compare(
        self,
        connection: &mut Session,
        context: &JetStream,
        settings: &BrokerSettings,
        name: &str,
    ) -> anyhow::Result<Option<Info>> {
        let Some(info) = stream_info(context, name).await? else {
            return Ok(None);
        };
        let trimmed_below = rounds::trimmed_below(connection, microseconds(info.created)).await?;
        let (first_sequence, last_sequence) = (info.state.first_sequence, info.state.last_sequence);
        if let Some(loss) = self.loss(info.created, first_sequence..=last_sequence, trimmed_below) {
            match loss {
                StreamLoss::Recreated => {}
                StreamLoss::EndMissing => {
                    tracing::error!(last_sequence, acknowledged = ?self.acknowledged, "the stream lost its end");
                }
                StreamLoss::Purged => tracing::error!(first_sequence, "the stream was purged"),
            }
            return Ok(None);
        }
        match broker::check_stream(context, settings, None).await {
            Ok(_) => Ok(Some(info)),
            Err(error) if error.is_incompatible() => {
                tracing::error!("{error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Compares with a stream of these sequences, of which the pipeline itself has trimmed those below `trimmed_below`.
    fn loss(
        self,
        created: OffsetDateTime,
        sequences: RangeInclusive<u64>,
        trimmed_below: u64,
    ) -> Option<StreamLoss> {
        if created != self.created {
            Some(StreamLoss::Recreated)
        } else if self.acknowledged > Some(*sequences.end()) {
            Some(StreamLoss::EndMissing)
        } else if *sequences.start() > trimmed_below {
            Some(StreamLoss::Purged)
        } else {
            None
        }
    }
}

/// The stream as it is; `None` if there is none.
async fn stream_info(context: &JetStream, name: &str) -> anyhow::Result<Option<Info>> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if broker::is_not_found(&error.kind()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_recreated_cut_short_or_purged_has_lost_something() {
        let (now, then) = (OffsetDateTime::now_utc(), OffsetDateTime::UNIX_EPOCH);
        let table = [
            (now, Some(9), 3..=9, 3, None),
            (now, None, 3..=9, 3, None),
            (now, Some(9), 3..=12, 5, None),
            (now, Some(10), 3..=9, 3, Some(StreamLoss::EndMissing)),
            (now, Some(9), 4..=9, 3, Some(StreamLoss::Purged)),
            (then, Some(10), 4..=9, 3, Some(StreamLoss::Recreated)),
        ];
        for (created, acknowledged, sequences, trimmed_below, expected) in table {
            let loss =
                Expected { created: now, acknowledged }.loss(created, sequences.clone(), trimmed_below);
            assert_eq!(
                loss, expected,
                "{sequences:?}, acknowledged {acknowledged:?}, trimmed {trimmed_below}"
            );
        }
    }
}
