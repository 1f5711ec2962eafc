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
    ExportError, Manifest, Options,
    described::Described,
    files::{self, Files},
    output::{Output, Target},
    progress::{Asked, Progress},
    record,
    render::Renderer,
    writer::{Finished, Message, Writer},
};
use crate::{
    ActorRef,
    horizon::{Horizon, purged},
    query::{Filter, Reader, Shape, Whole, WholePosition, time_text},
    signing::{SigningKey, hexadecimal},
    telemetry,
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
    /// What it lacks because it was purged.
    pub purged: Option<Horizon>,
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
    reader.require_table(filter).await?;
    let entries = reader.count_whole(filter, options.shape(), within).await?;
    Ok(options.max_rows.map_or(entries, |max_rows| entries.min(max_rows)))
}

/// Exports a part of the timeline. One that is left before its end can be gone on with, if it goes to a file. It needs one connection.
///
/// # Errors
/// When it cannot be made as it was asked for, `table_unknown` among it, when something of it cannot be written or recorded, and what the database says.
pub async fn export(
    reader: &Reader,
    request: Request,
    destination: Destination,
) -> Result<Exported, ExportError> {
    let shape = request.options.shape();
    // Otherwise a name that is misspelt hands over nothing, and stands in the timeline as if that were all. What is gone on with is known.
    if !matches!(destination, Destination::File { resume: true, .. }) {
        reader.require_table(&request.filter).await?;
    }
    measured(reader, request, (destination, shape), true).await
}

/// The same for an archive, of another shape than the options': what stands alone in the timeline, of the filter's window. It says nothing of
/// what was purged before, of which there are archives too.
///
/// # Errors
/// As [`export`].
pub(crate) async fn export_as(
    reader: &Reader,
    request: Request,
    destination: Destination,
    shape: Shape,
) -> Result<Exported, ExportError> {
    measured(reader, request, (destination, shape), false).await
}

async fn measured(
    reader: &Reader,
    request: Request,
    place: (Destination, Shape),
    says_purged: bool,
) -> Result<Exported, ExportError> {
    let started = Instant::now();
    let format = request.options.format.as_str();
    let rows = Arc::new(AtomicU64::new(0));
    let exported = run(reader, request, place, (says_purged, &rows)).await;
    let (row_count, took) = (rows.load(Ordering::Relaxed), started.elapsed());
    match &exported {
        Ok(exported) => telemetry::export_completed(row_count, took, format, exported.manifest.truncated),
        Err(error) => telemetry::export_failed(row_count, took, format, error.kind()),
    }
    exported
}

async fn run(
    reader: &Reader,
    request: Request,
    (destination, shape): (Destination, Shape),
    (says_purged, rows): (bool, &Arc<AtomicU64>),
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
        open(reader, &filter, &asked, (destination, shape)).await?;
    let origin = whole.origin().clone();
    if let Some(max_rows) = asked.options.max_rows {
        whole.want(max_rows.saturating_sub(output.total()));
    }
    let writer = Writer {
        renderer: Renderer::new(&asked.options, &origin.started_at, output.total() == 0)?,
        ends: whole.ends(),
        output,
        position,
        max_rows: asked.options.max_rows,
        on_progress,
        rows: rows.clone(),
    };
    let finished = stream(&mut whole, writer).await?;
    // The connection is free for what is asked beside, and for the record.
    drop(whole);
    // At the end: what was purged while it was read may be missing from what was read after.
    let purged = if says_purged { purged(reader, &origin.filter).await? } else { None };
    let described = Described {
        asked: &asked,
        shape,
        purged: purged.as_ref(),
        recorded: recorder.is_some(),
        key: key.as_ref(),
    };
    let manifest = described.manifest(&origin, finished, resumed_at, place.file());
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
    Ok(Exported { manifest, manifest_path, signature_path, purged })
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
    /// The name of the export, where it goes to a file.
    fn file(&self) -> Option<String> {
        match self {
            Self::Files(files) => files.name(),
            Self::Manifest(_) => None,
        }
    }

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
    (destination, shape): (Destination, Shape),
) -> Result<Begun<'r>, ExportError> {
    match destination {
        Destination::Stream { manifest: Some(path), .. } if path.exists() => {
            let reason = format!("{} is there already: name another manifest", path.display());
            Err(ExportError::refused("file_exists", reason))
        }
        Destination::Stream { out, manifest } => {
            manifest.as_deref().map_or(Ok(()), files::require_folder)?;
            Ok(Begun {
                whole: reader.whole(filter, shape).await?,
                output: Output::new(Target::Stream(out)),
                position: WholePosition::default(),
                resumed_at: Vec::new(),
                place: Place::Manifest(manifest),
            })
        }
        Destination::File { path, resume: false, force } => {
            let files = Files::of(&path);
            let can_be_resumed = asked.options.format.can_be_resumed();
            let file = files.begin(force, can_be_resumed)?;
            let whole = reader.whole(filter, shape).await?;
            let begun = || Box::new(Progress::new(asked.clone(), whole.origin().clone()));
            let progress = can_be_resumed.then(begun);
            if let Some(progress) = &progress {
                progress.write(&files)?;
            }
            let target = Target::File { file, files: files.clone(), progress };
            Ok(Begun {
                whole,
                output: Output::new(target),
                position: WholePosition::default(),
                resumed_at: Vec::new(),
                place: Place::Files(files),
            })
        }
        Destination::File { resume: true, .. } if !asked.options.format.can_be_resumed() => {
            let format = asked.options.format;
            let reason =
                format!("what there is of {format} cannot be gone on with: begin again with --force");
            Err(ExportError::refused("export_options", reason))
        }
        Destination::File { path, resume: true, force } => {
            let files = Files::of(&path);
            let (file, mut progress, digest) = checked(&files, asked, force).await?;
            let whole = reader.whole_from(shape, progress.origin.clone(), &progress.position).await?;
            progress.resumed_at.push(time_text(time::OffsetDateTime::now_utc()));
            progress.write(&files)?;
            let (parts, position) = (progress.parts.clone(), progress.position.clone());
            let resumed_at = progress.resumed_at.clone();
            let target = Target::File { file, files: files.clone(), progress: Some(Box::new(progress)) };
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
        whole.each(&stretches).await?;
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
