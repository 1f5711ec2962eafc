//! A TCP proxy between a process and a server, to delay, hold back or cut what travels.

mod relay;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Passes everything on.
    Open,
    /// Passes everything on that much later, both ways: latency, not a narrow line. The order stays.
    Delay(Duration),
    /// Holds back what goes to the server; what comes from it passes.
    HoldToServer,
    /// Holds back what comes from the server; what goes to it passes.
    HoldToClient,
    /// Holds back both ways: a silent network. Connections stay, and neither side learns that the other one closed
    /// or reset its end; new ones are accepted, silent too, and reach the server when the flow opens.
    HoldBoth,
    /// Resets every connection, and new ones as soon as they are made: an unreachable server.
    Refuse,
}

/// Listens on a free port and passes connections on to a server. Dropped, it closes them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
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
        let shared = Arc::new(Shared {
            flow: watch::Sender::new(Flow::Open),
            cuts: watch::Sender::new(0),
            abandoned: watch::Sender::new(0),
            route: Mutex::new(Route { server, budget: None }),
        });
        let acceptor = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, acceptor })
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens from now on; what is held back or delayed at this moment included.
    pub fn set(&self, flow: Flow) {
        // First the flow: a connection made in between is refused, or it sees the cut.
        self.shared.flow.send_replace(flow);
        if flow == Flow::Refuse {
            self.shared.cut();
        }
    }

    /// Resets every connection, whatever the flow; both sides see `ECONNRESET`, and what was held back or delayed is
    /// lost. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Leaves every connection as it is and passes nothing on over it ever again, as when a network forgets it: neither side
    /// learns anything. New ones work.
    pub fn abandon(&self) {
        self.shared.abandoned.send_modify(|times| *times += 1);
    }

    /// Cuts once `bytes` more have been passed on, both directions and all connections counted together: in the
    /// middle of whatever is being sent. Up to the last of these bytes everything arrives. Once only; new connections
    /// are accepted then. Called again before that, it counts again.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.route().budget = Some(bytes);
    }

    /// New connections go to another server from now on; existing ones are cut.
    pub fn aim(&self, server: SocketAddr) {
        // First the address: a connection made in between goes to the new server, or it sees the cut.
        self.shared.route().server = server;
        self.shared.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What the proxy and its connections share.
#[derive(Debug)]
struct Shared {
    flow: watch::Sender<Flow>,
    /// How many times connections were cut. Each one ends when it sees the number change.
    cuts: watch::Sender<u64>,
    /// How many times connections were abandoned.
    abandoned: watch::Sender<u64>,
    route: Mutex<Route>,
}

#[derive(Debug)]
struct Route {
    server: SocketAddr,
    /// How many bytes may still pass before the next cut; `None` without one.
    budget: Option<u64>,
}

impl Shared {
    fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many of `bytes` may be passed on, and whether connections must be cut after them.
    fn spend(&self, bytes: usize) -> (usize, bool) {
        let mut route = self.route();
        let Some(budget) = route.budget else {
            return (bytes, false);
        };
        let left = usize::try_from(budget).unwrap_or(usize::MAX);
        if bytes < left {
            route.budget = Some((left - bytes) as u64);
            (bytes, false)
        } else {
            route.budget = None;
            (left, true)
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((client, _)) = accepted else {
            // That client has gone again, or files are short until other connections end.
            tokio::task::yield_now().await;
            continue;
        };
        // Subscribed before the flow is looked at: from here on the connection sees every cut.
        let cuts = shared.cuts.subscribe();
        if *shared.flow.borrow() == Flow::Refuse {
            reset(&client);
        } else {
            connections.spawn(serve(client, shared.clone(), cuts));
        }
    }
}

/// One connection until its end.
async fn serve(mut client: TcpStream, shared: Arc<Shared>, mut cuts: watch::Receiver<u64>) {
    let mut server = None;
    let mut abandoned = shared.abandoned.subscribe();
    let ended = tokio::select! {
        biased;
        _ = cuts.changed() => false,
        _ = abandoned.changed() => {
            // Both sockets stay open, and nobody reads them.
            let _ = cuts.changed().await;
            false
        }
        result = relay::relay(&mut client, &mut server, &shared) => result.is_ok(),
    };
    if !ended {
        // Cut, or one side was reset: neither may look like an orderly end to the other one.
        reset(&client);
        server.iter().for_each(reset);
    }
}

/// Makes the coming close a reset: at once, and without what was not sent yet.
fn reset(socket: &TcpStream) {
    // Fails when the other side was faster; then there is nothing left to do.
    let _ = socket.set_zero_linger();
}
