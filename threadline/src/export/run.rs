//! From a question to a complete export: reading and writing side by side, then the manifest, the record and the names.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ring::digest::{Context, SHA256, digest};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    ExportError, Manifest, Options, Product, Rows,
    files::{self, Files},
    manifest::{Database, FORMAT_VERSION, Said, Window},
    output::{Output, Target},
    progress::{Asked, Progress},
    record,
    render::Renderer,
    writer::{Finished, Message, Writer},
};
use crate::{
    ActorRef,
    query::{Filter, Origin, Reader, Whole, WholePosition, time_text},
    signing::{SigningKey, hexadecimal},
};

/// Stretches that wait to be written, besides the one that is read and the one that is written.
const WAITING: usize = 1;

/// Is called now and then with the number of entries and of bytes so far, on another thread.
pub type OnProgress = Box<dyn Fn(u64, u64) + Send>;

/// What to export, and on whose behalf.
pub struct Request {
    /// Which entries.
    pub filter: Filter,
    /// What it looks like.
    pub options: Options,
    /// Whether it is recorded in the timeline.
    pub is_recorded: bool,
    /// Who is recorded; without, the service account of whoever is connected.
    pub actor: Option<ActorRef>,
    /// Signs the manifest.
    pub key: Option<SigningKey>,
    /// Hears how far it is.
    pub on_progress: Option<OnProgress>,
}

/// Where an export goes to.
#[non_exhaustive]
pub enum Destination {
    /// A file, with others beside it.
    File {
        /// Its name when it is complete.
        path: PathBuf,
        /// Goes on with one that was begun.
        resume: bool,
        /// Takes the place of one that is there, or begins again.
        force: bool,
    },
    /// Whoever reads it.
    Stream {
        /// Takes its bytes.
        out: Box<dyn Write + Send>,
        /// Where the manifest is written, if anywhere.
        manifest: Option<PathBuf>,
    },
}

/// A complete export.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// What it is.
    pub manifest: Manifest,
    /// Where the manifest is.
    pub manifest_path: Option<PathBuf>,
    /// Where its signature is.
    pub signature_path: Option<PathBuf>,
}

impl Request {
    /// Everything that the filter finds, recorded in the name of whoever is connected, and not signed.
    #[must_use]
    pub fn new(filter: Filter, options: Options) -> Self {
        Self { filter, options, is_recorded: true, actor: None, key: None, on_progress: None }
    }
}

impl Destination {
    /// A new file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), resume: false, force: false }
    }
}

/// How many entries an export would have; with a limit, at most as many.
///
/// # Errors
/// As [`export`], and `took_too_long`.
pub async fn count(
    reader: &Reader,
    filter: &Filter,
    options: &Options,
    within: Duration,
) -> Result<u64, ExportError> {
    options.check(filter)?;
    let entries = reader.count_whole(filter, options.shape(), within).await?;
    Ok(options.max_rows.map_or(entries, |max_rows| entries.min(max_rows)))
}

/// Exports a part of the timeline. One that is left before its end can be gone on with, if it goes to a file. It needs one connection.
///
/// # Errors
/// When it cannot be made as it was asked for, when something of it cannot be written or recorded, and what the database says.
pub async fn export(
    reader: &Reader,
    request: Request,
    destination: Destination,
) -> Result<Exported, ExportError> {
    let started = Instant::now();
    let format = request.options.format.as_str();
    let rows = Arc::new(AtomicU64::new(0));
    let exported = run(reader, request, destination, &rows).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let row_count = rows.load(Ordering::Relaxed);
    match &exported {
        Ok(exported) => {
            let truncated = exported.manifest.truncated;
            tracing::debug!(name: "threadline.export.completed", row_count, duration_ms, format, truncated);
        }
        Err(error) => {
            let error_kind = error.kind();
            tracing::debug!(name: "threadline.export.failed", row_count, duration_ms, format, error_kind);
        }
    }
    exported
}

async fn run(
    reader: &Reader,
    request: Request,
    destination: Destination,
    rows: &Arc<AtomicU64>,
) -> Result<Exported, ExportError> {
    let Request { filter, options, is_recorded, actor, key, on_progress } = request;
    filter.check()?;
    options.check(&filter)?;
    let recorder = if is_recorded {
        Some(record::recorder(&mut *reader.connection().await?, reader.schema(), actor).await?)
    } else {
        None
    };
    let asked = Asked {
        filter: filter.to_string(),
        options,
        scope: reader.scope().describe(),
        storage_schema: reader.schema().to_string(),
    };
    let Begun { mut whole, output, position, resumed_at, place } =
        open(reader, &filter, &asked, destination).await?;
    let origin = whole.origin().clone();
    if let Some(max_rows) = asked.options.max_rows {
        whole.want(max_rows.saturating_sub(output.total()));
    }
    let writer = Writer {
        renderer: Renderer::new(&asked.options, &origin.started_at, output.total() == 0),
        ends: whole.ends(),
        output,
        position,
        max_rows: asked.options.max_rows,
        on_progress,
        rows: rows.clone(),
    };
    let finished = stream(&mut whole, writer).await?;
    // The connection is free for the record.
    drop(whole);
    let manifest = manifest(&asked, &origin, finished, resumed_at, &place, recorder.is_some(), key.as_ref());
    let bytes = manifest.to_bytes();
    if let Some(actor) = recorder {
        let sha256 = hexadecimal(digest(&SHA256, &bytes).as_ref());
        let mut connection = reader.connection().await?;
        record::record(&mut connection, reader.schema(), actor, &manifest, &sha256)
            .await
            .map_err(ExportError::Unrecorded)?;
    }
    let signature = key.map(|key| key.sign(&bytes));
    let manifest_path = place.complete(&bytes, signature.as_deref())?;
    let signature_path = manifest_path.as_deref().filter(|_| signature.is_some()).map(files::signature_of);
    Ok(Exported { manifest, manifest_path, signature_path })
}

/// What is read and written.
struct Begun<'r> {
    whole: Whole<'r>,
    output: Output,
    position: WholePosition,
    resumed_at: Vec<String>,
    place: Place,
}

/// Where the manifest goes to.
enum Place {
    Files(Files),
    Manifest(Option<PathBuf>),
}

impl Place {
    fn complete(self, manifest: &[u8], signature: Option<&[u8]>) -> Result<Option<PathBuf>, ExportError> {
        match self {
            Self::Files(files) => {
                files.complete(manifest, signature)?;
                Ok(Some(files.manifest))
            }
            Self::Manifest(None) => Ok(None),
            Self::Manifest(Some(path)) => {
                if let Some(signature) = signature {
                    files::replace(&files::signature_of(&path), signature)?;
                }
                files::replace(&path, manifest)?;
                Ok(Some(path))
            }
        }
    }
}

async fn open<'r>(
    reader: &'r Reader,
    filter: &Filter,
    asked: &Asked,
    destination: Destination,
) -> Result<Begun<'r>, ExportError> {
    let shape = asked.options.shape();
    match destination {
        Destination::Stream { manifest: Some(path), .. } if path.exists() => {
            let reason = format!("{} is there already: name another manifest", path.display());
            Err(ExportError::refused("file_exists", reason))
        }
        Destination::Stream { out, manifest } => Ok(Begun {
            whole: reader.whole(filter, shape).await?,
            output: Output::new(Target::Stream(out)),
            position: WholePosition::default(),
            resumed_at: Vec::new(),
            place: Place::Manifest(manifest),
        }),
        Destination::File { path, resume: false, force } => {
            let files = Files::of(&path);
            let file = files.begin(force)?;
            let whole = reader.whole(filter, shape).await?;
            let progress = Progress::new(asked.clone(), whole.origin().clone());
            progress.write(&files)?;
            let target = Target::File { file, files: files.clone(), progress: Box::new(progress) };
            Ok(Begun {
                whole,
                output: Output::new(target),
                position: WholePosition::default(),
                resumed_at: Vec::new(),
                place: Place::Files(files),
            })
        }
        Destination::File { path, resume: true, force } => {
            let files = Files::of(&path);
            let (file, mut progress, digest) = checked(&files, asked, force).await?;
            let whole = reader.whole_from(shape, progress.origin.clone(), &progress.position).await?;
            progress.resumed_at.push(time_text(time::OffsetDateTime::now_utc()));
            progress.write(&files)?;
            let (parts, position) = (progress.parts.clone(), progress.position.clone());
            let resumed_at = progress.resumed_at.clone();
            let target = Target::File { file, files: files.clone(), progress: Box::new(progress) };
            Ok(Begun {
                whole,
                output: Output::from(target, parts, digest),
                position,
                resumed_at,
                place: Place::Files(files),
            })
        }
    }
}

/// What there is to go on with. All of it is read, which takes time.
async fn checked(
    files: &Files,
    asked: &Asked,
    force: bool,
) -> Result<(File, Progress, Context), ExportError> {
    let (files, asked) = (files.clone(), asked.clone());
    let checked = spawn_blocking(move || {
        let mut file = files.resume(force)?;
        let progress = Progress::read(&files, &asked)?;
        let digest = progress.check(&mut file, &files)?;
        Ok((file, progress, digest))
    });
    joined(checked.await)
}

/// Reads stretch after stretch while another thread writes.
async fn stream(whole: &mut Whole<'_>, writer: Writer) -> Result<Finished, ExportError> {
    let (stretches, messages) = mpsc::channel(WAITING);
    let writing = spawn_blocking(move || writer.run(messages));
    let read = async {
        let take = async |stretch| stretches.send(Message::Stretch(stretch)).await.is_ok();
        whole.each(take).await?;
        let _ = stretches.send(Message::End).await;
        Ok(())
    };
    // Whoever has enough, or cannot write, takes no more, and waits for no statement.
    let read: Result<(), ExportError> = tokio::select! {
        read = read => read,
        () = stretches.closed() => Ok(()),
    };
    drop(stretches);
    let written = joined(writing.await)?;
    read?;
    // Only where reading has failed.
    written.ok_or_else(|| ExportError::Unwritten(io::Error::other("writing ended before reading")))
}

/// What a thread has returned; one that panicked takes this one with it.
fn joined<T>(joined: Result<Result<T, ExportError>, tokio::task::JoinError>) -> Result<T, ExportError> {
    match joined {
        Ok(returned) => returned,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(ExportError::Unwritten(io::Error::other(error))),
    }
}

fn manifest(
    asked: &Asked,
    origin: &Origin,
    finished: Finished,
    resumed_at: Vec<String>,
    place: &Place,
    recorded: bool,
    key: Option<&SigningKey>,
) -> Manifest {
    let Finished { written, truncated } = finished;
    let (from, to) = origin.filter.window.ends(time::OffsetDateTime::UNIX_EPOCH);
    let Asked { filter, options, scope, storage_schema } = asked;
    Manifest {
        format_version: FORMAT_VERSION,
        product: Product { name: "threadline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        file: match place {
            Place::Files(files) => files.name(),
            Place::Manifest(_) => None,
        },
        generated_at: origin.started_at.clone(),
        resumed_at,
        database: Database {
            name: origin.database.clone(),
            system_identifier: origin.system_identifier.clone(),
        },
        storage_schema: storage_schema.clone(),
        snapshot: origin.snapshot.clone(),
        filter: filter.clone(),
        window: Window { from: from.map(time_text), to: to.map(time_text) },
        scope: scope.clone(),
        profile: options.profile,
        format: options.format,
        options: Said::from(options),
        columns: options.columns().iter().map(|&column| column.to_owned()).collect(),
        rows: Rows::of(&written.parts),
        max_rows: options.max_rows,
        truncated,
        bytes: written.bytes,
        sha256: written.sha256,
        first_entry_at: written.parts.iter().find_map(|part| part.first_entry_at.clone()),
        last_entry_at: written.parts.iter().rev().find_map(|part| part.last_entry_at.clone()),
        parts: written.parts,
        recorded,
        key: key.map(SigningKey::public),
    }
}
