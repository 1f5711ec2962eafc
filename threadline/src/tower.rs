//! The context of a request, for axum, tonic and every other stack of tower services: who calls, and the ids that its headers carry.
//!
//! Identity is the host's own: the layer asks its function and no header. It does no work in the database.
//!
//! ```
//! use threadline::{ActorRef, ActorType, tower::ContextLayer};
//!
//! /// What the host's authentication left behind.
//! #[derive(Clone)]
//! struct SignedIn(String);
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = ContextLayer::new(|request| {
//!     let SignedIn(id) = request.extensions.get::<SignedIn>()?;
//!     ActorRef::new(ActorType::User, Some(id.as_str())).ok()
//! })
//! .trust_proxies(["10.0.0.0/8".parse()?]);
//! // In axum: Router::new().route(…).layer(layer), below the layer that signs in; handlers take `Extension<AuditContext>`.
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, request::Parts};
pub use ipnet::IpNet;
use tower_layer::Layer;
use tower_service::Service;

use crate::{ActorRef, AuditContext};

/// The header with the id of the request.
const REQUEST_ID: &str = "x-request-id";

/// The header with the id that ties requests together.
const CORRELATION_ID: &str = "x-correlation-id";

/// The header in which each proxy appends the address of its client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A longer id is no id: a client must not make the context of its own changes too large.
const ID_BYTES_MAX: usize = 256;

type ActorOf = dyn Fn(&Parts) -> Option<ActorRef> + Send + Sync;
type PeerOf = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

/// Gives every request an [`AuditContext`] among its extensions. What an outer layer has put there stays, as far as it is known.
#[derive(Clone)]
pub struct ContextLayer {
    actor: Arc<ActorOf>,
    peer: Option<Arc<PeerOf>>,
    proxies: Arc<[IpNet]>,
}

impl fmt::Debug for ContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextLayer").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl ContextLayer {
    /// With the host's function that says who calls; it sees method, headers and extensions. `None` is nobody known.
    pub fn new(actor: impl Fn(&Parts) -> Option<ActorRef> + Send + Sync + 'static) -> Self {
        Self { actor: Arc::new(actor), peer: None, proxies: Arc::default() }
    }

    /// Stores the caller's address under `remote_ip` in the context. `peer` says who is connected: in axum, what
    /// `ConnectInfo<SocketAddr>` among the extensions holds.
    #[must_use]
    pub fn remote_ip(mut self, peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.peer = Some(Arc::new(peer));
        self
    }

    /// Proxies that are believed about whom they speak for, by `X-Forwarded-For`. Without any the header is ignored: everybody may
    /// send it.
    #[must_use]
    pub fn trust_proxies(mut self, proxies: impl IntoIterator<Item = IpNet>) -> Self {
        self.proxies = proxies.into_iter().collect();
        self
    }

    fn context(&self, request: &Parts) -> AuditContext {
        let mut context = request.extensions.get::<AuditContext>().cloned().unwrap_or_default();
        if let Some(actor) = (self.actor)(request) {
            context = context.actor_or(actor);
        }
        if let Some(id) = id(&request.headers, REQUEST_ID) {
            context = context.request_id(id);
        }
        if let Some(id) = id(&request.headers, CORRELATION_ID) {
            context = context.correlation_id(id);
        }
        if let Some(address) = self.peer.as_ref().and_then(|peer| peer(request)) {
            context = context.with("remote_ip", self.client(address, &request.headers).to_string());
        }
        context
    }

    /// Whoever the trusted proxies say that they speak for: the last address that is not one of theirs.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_proxy = |address: IpAddr| self.proxies.iter().any(|net| net.contains(&address.to_canonical()));
        let forwarded = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let forwarded: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut client = peer.to_canonical();
        for claimed in forwarded.into_iter().rev() {
            if !is_proxy(client) {
                break;
            }
            // What no proxy of ours can have written ends the chain.
            let Ok(address) = claimed.parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// The first value of a header, if it is an id.
fn id(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= ID_BYTES_MAX).then(|| value.to_owned())
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> ContextService<S> {
        ContextService { layer: self.clone(), inner }
    }
}

/// A service whose requests have a context.
#[derive(Debug, Clone)]
pub struct ContextService<S> {
    layer: ContextLayer,
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ContextService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let (mut parts, body) = request.into_parts();
        let context = self.layer.context(&parts);
        parts.extensions.insert(context);
        self.inner.call(Request::from_parts(parts, body))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::Ready};

    use super::*;
    use crate::ActorType;

    /// Answers with the context that it was given.
    struct Handler;

    impl Service<Request<()>> for Handler {
        type Response = AuditContext;
        type Error = Infallible;
        type Future = Ready<Result<AuditContext, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            std::future::ready(Ok(request.extensions().get::<AuditContext>().cloned().unwrap_or_default()))
        }
    }

    fn user(id: &str) -> ActorRef {
        ActorRef::new(ActorType::User, Some(id)).expect("an actor")
    }

    fn seen(layer: &ContextLayer, headers: &[(&str, &str)], outer: Option<AuditContext>) -> AuditContext {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(outer) = outer {
            request = request.extension(outer);
        }
        let request = request.body(()).expect("a request");
        layer.layer(Handler).call(request).into_inner().expect("infallible")
    }

    #[test]
    fn a_request_has_the_hosts_actor_and_the_ids_of_its_headers() {
        let layer = ContextLayer::new(|_| Some(user("u1")));
        let headers = [
            ("x-request-id", "r1"),
            ("x-request-id", "r2"),
            ("x-correlation-id", "c1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-user", "u2"),
        ];
        let expected = AuditContext::of(user("u1")).request_id("r1").correlation_id("c1");
        assert_eq!(seen(&layer, &headers, None), expected);
    }

    #[test]
    fn what_is_no_id_is_absent() {
        let layer = ContextLayer::new(|_| None);
        for value in ["", "  ", &"x".repeat(257)] {
            let headers = [("x-request-id", value), ("x-correlation-id", value)];
            assert_eq!(seen(&layer, &headers, None), AuditContext::without_actor(), "{value:?}");
        }
        let longest = "x".repeat(256);
        let headers = [("x-request-id", longest.as_str())];
        assert_eq!(seen(&layer, &headers, None), AuditContext::without_actor().request_id(longest.clone()));
    }

    #[test]
    fn what_an_outer_layer_knows_stays() {
        let layer = ContextLayer::new(|_| Some(user("u1")));
        let outer = AuditContext::of(user("outer")).request_id("made").source("web");
        let headers = [("x-correlation-id", "c1")];
        assert_eq!(seen(&layer, &headers, Some(outer.clone())), outer.correlation_id("c1"));
    }

    #[test]
    fn an_address_is_believed_as_far_as_trusted_proxies_vouch_for_it() {
        let proxies: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().expect("a net")).into();
        let table = [
            // Nobody to believe.
            ("192.0.2.7", &["203.0.113.9"][..], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            // What a client has written itself stands before what the proxy appends.
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.1.2.3"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["2001:db8::1, 10.9.9.9"], "2001:db8::1"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2"], "10.0.0.2"),
        ];
        for (peer, forwarded, expected) in table {
            let address: IpAddr = peer.parse().expect("an address");
            let layer =
                ContextLayer::new(|_| None).remote_ip(move |_| Some(address)).trust_proxies(proxies.clone());
            let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let expected = AuditContext::without_actor().with("remote_ip", expected);
            assert_eq!(seen(&layer, &headers, None), expected, "{peer} {forwarded:?}");
        }
    }
}
