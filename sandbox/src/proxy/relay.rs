//! One connection: each direction is read into a queue, and written from it when the flow lets it pass.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Flow, Shared};

/// How many chunks are on their way in one direction. With a delay it bounds the throughput: that many in each delay.
const QUEUE: usize = 256;

const CHUNK: usize = 64 << 10;

/// What one read answered, and when: bytes, none for the orderly end, or the error of a reset. All three travel in
/// the queue, so that a silent network hides the end of a connection as well.
struct Chunk {
    arrived: Instant,
    read: io::Result<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Passes everything on until both sides have closed their ends. The connection to the server is left in `server`.
pub(super) async fn relay(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    shared: &Shared,
) -> io::Result<()> {
    // In a silent network not even the first packet of a connection reaches the server.
    let mut flow = shared.flow.subscribe();
    flow.wait_for(|flow| *flow != Flow::HoldBoth).await.map_err(io::Error::other)?;
    let address = shared.route().server;
    let server = server.insert(TcpStream::connect(address).await?);
    // What is passed on leaves at once; the real sender has decided what belongs together.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let (up, to_go_up) = mpsc::channel(QUEUE);
    let (down, to_go_down) = mpsc::channel(QUEUE);
    tokio::try_join!(
        read(from_client, up),
        write(to_go_up, to_server, Direction::ToServer, shared),
        read(from_server, down),
        write(to_go_down, to_client, Direction::ToClient, shared),
    )?;
    Ok(())
}

async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Chunk>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await.map(|read| buffer[..read].to_vec());
        let is_last = read.as_ref().map_or(true, Vec::is_empty);
        // Without the writer the connection ends, with the writer's own error.
        if queue.send(Chunk { arrived: Instant::now(), read }).await.is_err() || is_last {
            return Ok(());
        }
    }
}

async fn write(
    mut queue: mpsc::Receiver<Chunk>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    let mut flow = shared.flow.subscribe();
    while let Some(chunk) = queue.recv().await {
        passage(&mut flow, chunk.arrived, direction).await;
        let bytes = chunk.read?;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        let (allowed, cut) = shared.spend(bytes.len());
        to.write_all(&bytes[..allowed]).await?;
        if cut {
            shared.cut();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    Ok(())
}

/// Waits until what arrived then may be passed on.
async fn passage(flow: &mut watch::Receiver<Flow>, arrived: Instant, direction: Direction) {
    loop {
        let current = *flow.borrow_and_update();
        match current {
            Flow::Open => return,
            Flow::HoldToServer if direction == Direction::ToClient => return,
            Flow::HoldToClient if direction == Direction::ToServer => return,
            Flow::Delay(delay) => tokio::select! {
                // Not synchronisation: this is the delay that was asked for.
                () = tokio::time::sleep_until(arrived + delay) => return,
                _ = flow.changed() => {}
            },
            // Refused connections are about to be cut.
            Flow::HoldToServer | Flow::HoldToClient | Flow::HoldBoth | Flow::Refuse => {
                // The sender lives as long as the connections.
                let _ = flow.changed().await;
            }
        }
    }
}
