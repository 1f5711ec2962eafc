//! What is handed out piece by piece, as whoever asks takes it: a thread writes, and waits while nobody reads.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};

use crate::{asked::Asked, failure::Failure, limits::Turn};

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// Pieces that wait to be taken.
const WAITING: usize = 4;

/// After this time it ends, however little was taken.
const LIFE: Duration = Duration::from_secs(600);

/// A piece, or why there is no further one.
type Piece = Result<Vec<u8>, Failure>;

/// Where a thread writes to.
pub(crate) struct Outgoing {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Something that is being handed out.
pub(crate) struct Download {
    sender: mpsc::Sender<Piece>,
    receiver: mpsc::Receiver<Piece>,
    until: Instant,
    turn: Turn,
    /// That the last piece was taken.
    taken: oneshot::Sender<()>,
}

/// Whoever has written says here why it ended too early, or waits until everything was taken.
pub(crate) struct Ending {
    sender: mpsc::Sender<Piece>,
    taken: oneshot::Receiver<()>,
}

impl Ending {
    pub(crate) async fn failed(self, failure: Failure) {
        // Where nobody reads any more, nobody wants to know.
        let _ = self.sender.send(Err(failure)).await;
    }

    /// Whether everything was taken.
    pub(crate) async fn until_taken(self) -> bool {
        drop(self.sender);
        self.taken.await.is_ok()
    }
}

impl Download {
    /// One of the few that may be handed out at a time, for as long as the grant is good, and where it is written to.
    pub(crate) fn begin(asked: &Asked) -> Result<(Self, Outgoing, Ending), Failure> {
        let turn = asked.shared.downloads.try_take(asked.grant.actor()).ok_or(Failure::Busy)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (taken, is_taken) = oneshot::channel();
        let outgoing = Outgoing { sender: sender.clone(), piece: Vec::with_capacity(PIECE) };
        let ending = Ending { sender: sender.clone(), taken: is_taken };
        let until = Instant::now() + asked.grant.lasts(asked.now, LIFE);
        Ok((Self { sender, receiver, until, turn, taken }, outgoing, ending))
    }

    /// The answer. It begins when the first piece is there, so that what cannot be written at all is said on a page. What fails later ends the
    /// connection in the middle: a browser says then that the file is not whole.
    pub(crate) async fn answer(self, headers: HeaderMap) -> Result<Response, Failure> {
        let Self { sender, mut receiver, until, turn, taken } = self;
        drop(sender);
        let first = receiver.recv().await.transpose()?;
        let (handing, pieces) = mpsc::channel::<Piece>(1);
        let is_whole = Arc::new(AtomicBool::new(false));
        let whole = Arc::clone(&is_whole);
        // Whoever takes nothing asks for nothing either: the time is kept here, and with its end the writer's connection is free again.
        tokio::spawn(async move {
            let _turn = turn;
            let hand_on = async {
                let mut next = first.map(Ok);
                while let Some(piece) = next {
                    if handing.send(piece).await.is_err() {
                        return;
                    }
                    next = receiver.recv().await;
                }
                whole.store(true, Ordering::Release);
            };
            let _ = timeout_at(until.into(), hand_on).await;
        });
        let rest = stream::unfold(Some((pieces, taken)), move |state| {
            let is_whole = Arc::clone(&is_whole);
            async move {
                let (mut pieces, taken) = state?;
                match pieces.recv().await {
                    Some(Ok(piece)) => Some((Ok(piece), Some((pieces, taken)))),
                    Some(Err(failure)) => Some((Err(io::Error::other(failure.text())), None)),
                    None if is_whole.load(Ordering::Acquire) => {
                        // Where nobody waits for it, nobody wants to know.
                        let _ = taken.send(());
                        None
                    }
                    None => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), None)),
                }
            }
        });
        let mut response = Body::from_stream(rest).into_response();
        response.headers_mut().extend(headers);
        Ok(response)
    }
}

/// The name that a file has where it is downloaded.
pub(crate) fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

/// The headers of a file.
pub(crate) fn headers(kind: &'static str, name: &str, bytes: Option<u64>, sha256: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let plain = file_name(name);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Some(bytes) = bytes {
        headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    if let Some(value) = sha256.and_then(|sha256| HeaderValue::from_str(sha256).ok()) {
        headers.insert("x-content-sha256", value);
    }
    headers
}
