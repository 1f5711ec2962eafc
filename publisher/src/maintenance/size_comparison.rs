//! Reports a stream that was made smaller than the settings while this process leads.

use async_nats::jetstream::stream::Info;
use common::{broker, settings::BrokerSettings};

/// What was reported last.
#[derive(Debug, Default)]
pub(super) struct SizeComparison {
    smaller: Option<String>,
}

impl SizeComparison {
    /// Reports a change. Publishing continues: less room is back-pressure, and no loss.
    pub(super) fn update(&mut self, settings: &BrokerSettings, info: &Info) {
        let smaller = broker::smaller(settings, &info.config);
        if smaller == self.smaller {
            return;
        }
        if let Some(differences) = &smaller {
            tracing::warn!(
                differences,
                "the stream is smaller than the settings; publishing continues. Change the stream with `nats stream edit`, \
                 or the [broker] settings to match it"
            );
        } else {
            tracing::info!("the stream is as large as the settings again");
        }
        self.smaller = smaller;
    }
}
