//! Whether references travel in packs: a stream that holds packs has to take them, and to say so to builds that cannot read them.

use common::{
    broker::{self, BrokerError, ConnectionEpoch},
    reference::PACK_BYTES,
    settings::Packing,
};

use super::JetStreamSink;

impl JetStreamSink {
    /// How many references a message may hold. Where nothing can be packed they travel one by one, which costs time and stops
    /// nothing.
    pub(super) async fn allowed_references(&self) -> usize {
        if self.settings.pack == Packing::Never {
            return 1;
        }
        match self.prepare_for_packs().await {
            Ok(()) => self.settings.pack_rows,
            Err(why) => {
                tracing::warn!(
                    "references travel one by one: {why}; or set publisher.pack = \"never\", which is the same without this warning"
                );
                1
            }
        }
    }

    /// Marks the stream, before the first pack is in it.
    async fn prepare_for_packs(&self) -> Result<(), String> {
        self.has_room_for_packs()?;
        loop {
            self.connected().await;
            let connection = ConnectionEpoch::of(&self.client);
            match broker::mark_packed(&self.context, &self.broker, &self.source).await {
                Ok(()) => return Ok(()),
                Err(error) if connection.is_ended() => {
                    self.progress.waiting(format!("broker: {error}"));
                }
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    /// What refuses packs since a limit was lowered: they would be sent again without end, and what travels alone still passes.
    pub(super) async fn refuses_packs(&mut self) -> Option<String> {
        if self.references_max == 1 || self.stream.info().await.is_err() {
            return None;
        }
        self.has_room_for_packs().err()
    }

    /// Whether the server and the stream take messages of that size, as far as they were read last.
    fn has_room_for_packs(&self) -> Result<(), String> {
        let limit = self.client.server_info().max_payload;
        if limit < PACK_BYTES {
            return Err(format!(
                "max_payload of the server is {limit} bytes, and a pack may have {PACK_BYTES}: raise it"
            ));
        }
        let limit = self.stream.cached_info().config.max_message_size;
        if usize::try_from(limit).is_ok_and(|limit| (1..PACK_BYTES).contains(&limit)) {
            return Err(format!(
                "max_msg_size of the stream is {limit} bytes, and a pack may have {PACK_BYTES}: raise it with `nats stream edit`"
            ));
        }
        Ok(())
    }

    /// A user that may not change the stream gets no answer.
    fn explain(&self, error: &BrokerError) -> String {
        format!(
            "the description of the stream cannot be changed to say that it holds packs ({error}): allow this user to publish on \
             $JS.API.STREAM.UPDATE.{} (deploy/nats/permissions.conf)",
            self.broker.stream
        )
    }
}
