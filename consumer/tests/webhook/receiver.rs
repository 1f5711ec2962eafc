//! A receiver of webhooks that follows a script and remembers what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
    serve::Listener,
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// One POST.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Post {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The actions of its events.
    pub(crate) fn actions(&self) -> Vec<String> {
        let json = self.json();
        let events = json["events"].as_array().unwrap();
        events.iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// What to answer; `None` never answers. Posts are counted from 1.
pub(crate) type Script = fn(number: usize, post: &Post) -> Option<Response>;

#[derive(Clone)]
struct Shared {
    script: Script,
    posts: Arc<Mutex<Vec<Post>>>,
}

/// Stops when dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
    task: AbortHandle,
}

impl Receiver {
    pub(crate) async fn start(script: Script) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self::serve(listener.local_addr()?, listener, script))
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor, script: Script) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self::serve(listener.local_addr()?, Tls { listener, acceptor }, script))
    }

    fn serve<L: Listener<Addr = SocketAddr>>(address: SocketAddr, listener: L, script: Script) -> Self {
        let posts = Arc::<Mutex<Vec<Post>>>::default();
        let app = Router::new().fallback(receive).with_state(Shared { script, posts: posts.clone() });
        let task = tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, posts, task: task.abort_handle() }
    }

    pub(crate) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// The actions of each POST.
    pub(crate) fn actions(&self) -> Vec<Vec<String>> {
        self.posts().iter().map(Post::actions).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let post = Post { path: parts.uri.to_string(), headers: parts.headers, body };
    let number = {
        let mut posts = shared.posts.lock().unwrap();
        posts.push(post.clone());
        posts.len()
    };
    match (shared.script)(number, &post) {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust us hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
