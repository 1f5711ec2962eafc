//! The section `[publisher]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, sections::Listen};
use crate::reference::PACK_MAX;

/// `[publisher]`: from the log to JetStream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PublisherSettings {
    /// Publishes in flight. The broker saturates between 256 and 1,000; more starves its consumers.
    pub max_in_flight: usize,
    /// Whether references travel together.
    pub pack: Packing,
    /// Most references in one message.
    pub pack_rows: usize,
    /// How long an acknowledgement may take before its outcome counts as unknown and is asked for again.
    #[serde(with = "duration")]
    pub ack_timeout: Duration,
    /// How much of the stream stays behind the slowest consumer, for replays.
    #[serde(with = "duration")]
    pub replay_window: Duration,
    /// Unready once the oldest page has been in work this long, or a server away.
    #[serde(with = "duration")]
    pub unready_after: Duration,
    /// Address of /healthz, /readyz and /metrics, or "off".
    pub listen: Listen,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 1_000,
            pack: Packing::Auto,
            pack_rows: PACK_MAX,
            ack_timeout: Duration::from_secs(5),
            replay_window: Duration::from_secs(7 * 24 * 3_600),
            unready_after: Duration::from_secs(60),
            listen: Listen::local(9_464),
        }
    }
}

/// Whether a message may hold many references.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Where many are read at once.
    #[default]
    Auto,
    /// Each travels alone, as builds of before read them.
    Never,
}
