//! A consumer with a forwarder of your own: the whole binary, ready to be copied.
//!
//! It appends one JSON object per event to a file. Configure it like any other forwarder, in a file `audit.toml`, and run it with the
//! environment of the consumer: `cargo run --package consumer --example custom_forwarder -- run`.
//!
//! ```toml
//! [[forwarder]]
//! id = "archive"
//! kind = "json_lines"
//! path = "/var/lib/audit/archive.jsonl"
//! ```

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use consumer::prelude::*;
use serde::Deserialize;
use tokio::{fs::File, io::AsyncWriteExt as _};

fn main() -> ExitCode {
    // The kinds that come along stay; a name that is taken would be replaced.
    let mut registry = Registry::with_built_in();
    registry.register("json_lines", JsonLines);
    // Everything else is the consumer as you know it: run, status, failures, config, and all settings.
    cli::main(registry)
}

/// The kind: reads and checks the options of one `[[forwarder]]`, once, at boot.
struct JsonLines;

/// Options beyond `id`, `kind` and `dispatch`. An unknown key is a mistake, and refused by its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    path: PathBuf,
}

impl ForwarderKind for JsonLines {
    fn configure(
        &self,
        forwarder: &ForwarderSettings,
        _: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        let options: Options = forwarder::options(forwarder)?;
        if !options.path.is_absolute() {
            return Err(ConfigureError::new(forwarder, "path: must be absolute"));
        }
        Ok(Arc::new(Archive { path: options.path }))
    }
}

/// A forwarder with its options: makes one worker for each batch that may be in work at a time.
struct Archive {
    path: PathBuf,
}

impl ForwarderFactory for Archive {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(Writer { path: self.path.clone(), file: None })
    }

    /// Two forwarders into the same file would each write every event: refused at boot.
    fn target(&self) -> BoxFuture<'_, Result<Option<String>, ForwardError>> {
        Box::pin(async { Ok(Some(format!("file {}", self.path.display()))) })
    }

    /// Without the folder no event could be delivered: refused at boot, and said by `consumer doctor`.
    fn preflight(&self) -> BoxFuture<'_, Preflight> {
        Box::pin(async {
            let folder = self.path.parent().filter(|folder| !folder.is_dir());
            let missing = folder.map(|folder| {
                Problem::new(format!("there is no folder {}", folder.display()), "create it, or change path")
            });
            Preflight::new(self.target().await.unwrap_or_default(), vec![(FOLDER_MISSING, missing)])
        })
    }
}

const FOLDER_MISSING: &Check =
    &Check::of_target("archive-folder-missing", Severity::Error, "The folder of the archive is there.");

/// One worker. It may keep a connection, or a file, between batches.
struct Writer {
    path: PathBuf,
    file: Option<File>,
}

impl Forwarder for Writer {
    /// One verdict per event, in order. A panic in here, or an answer that does not come in time, is a failed attempt of
    /// the event that causes it, and costs no other event anything.
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            let mut verdicts = Vec::with_capacity(events.len());
            for event in events {
                match line(event) {
                    Some(mut line) => {
                        lines.append(&mut line);
                        verdicts.push(Verdict::Delivered);
                    }
                    // It will never work for this event: a dead letter at once.
                    None => {
                        verdicts
                            .push(Verdict::DeadLetter(Reason::SchemaMismatch, "it has no action".to_owned()));
                    }
                }
            }
            // A disk that is full says nothing about any event: the batch is held and tried again, and no attempt is used.
            self.append(&lines).await.map_err(|error| {
                self.file = None;
                ForwardError::unavailable(format!("{}: {error}", self.path.display()))
            })?;
            Ok(verdicts)
        })
    }
}

impl Writer {
    async fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::options().create(true).append(true).open(&self.path).await?);
        }
        let file = self.file.as_mut().expect("opened above");
        file.write_all(lines).await?;
        // Only what is safe may be called delivered. Events may be delivered again after a crash: whoever reads the file drops
        // repeats by their id.
        file.sync_data().await
    }
}

fn line(event: &AuditEvent) -> Option<Vec<u8>> {
    let value = serde_json::json!({
        "id": event.id,
        "action": event.action.as_deref()?,
        "occurred_at": event.occurred_at.map(|time| time.to_string()),
        "actor_id": event.actor_id,
        "outcome": event.outcome,
    });
    let mut line = serde_json::to_vec(&value).ok()?;
    line.push(b'\n');
    Some(line)
}
