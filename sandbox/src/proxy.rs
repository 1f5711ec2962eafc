//! A TCP proxy between a process and a server, to hold back or cut what travels.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Passes them on.
    Open,
    /// Holds back what goes to the server; what comes from it passes.
    HoldToServer,
    /// Holds back both ways: a silent network.
    HoldBoth,
}

/// Listens on a free port and passes connections on to a server. Dropped, it cuts them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    flow: watch::Sender<Flow>,
    acceptor: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of `server`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (flow, watched) = watch::channel(Flow::Open);
        let acceptor = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let watched = watched.clone();
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        let (from_client, to_client) = client.into_split();
                        let (from_server, to_server) = server.into_split();
                        let up = pass(from_client, to_server, watched.clone(), |flow| flow == Flow::Open);
                        let down = pass(from_server, to_client, watched, |flow| flow != Flow::HoldBoth);
                        tokio::select! { () = up => {}, () = down => {} }
                    }
                });
            }
        });
        Ok(Self { address, flow, acceptor })
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to bytes from now on.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    may_pass: impl Fn(Flow) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        // Held before it is passed on: what has been read goes nowhere until the flow opens.
        if flow.wait_for(|flow| may_pass(*flow)).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
