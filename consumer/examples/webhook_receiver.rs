//! A receiver for the forwarder `webhook`: verifies the signature, drops repeats by id, and answers once it has the events.
//!
//! ```sh
//! SECRET="sixteen bytes ok" cargo run --package consumer --example webhook_receiver
//! ```
//!
//! and in the settings of the consumer, beside the other forwarders:
//!
//! ```toml
//! [[forwarder]]
//! id = "receiver"
//! kind = "webhook"
//! url = "http://127.0.0.1:8080/audit"
//! secret = "sixteen bytes ok"
//! ```
//!
//! `ADDRESS` is where it listens, 127.0.0.1:8080 if it is not set.

#![allow(clippy::print_stdout, reason = "an example")]

use std::{
    collections::HashSet,
    env,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Clone)]
struct Receiver {
    secret: Arc<str>,
    /// A real one keeps the events in a table with a unique index on the id: `insert … on conflict do nothing`.
    seen: Arc<Mutex<HashSet<Uuid>>>,
}

/// Unknown fields are ignored: later versions may send more.
#[derive(Deserialize)]
struct Post {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    id: Uuid,
    action: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver { secret: env::var("SECRET")?.into(), seen: Arc::default() };
    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/audit", listener.local_addr()?);
    let router = Router::new().route("/audit", post(receive)).with_state(receiver);
    Ok(axum::serve(listener, router).await?)
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // Over the bytes as they came, before anything parses them.
    if !is_genuine(receiver.secret.as_bytes(), &body, &headers) {
        println!("a forgery, or another secret");
        // Not 401: any 4xx but 408, 425 and 429 would make each event a dead letter, and a secret can be corrected.
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let Ok(Post { events }) = serde_json::from_slice(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY;
    };
    let mut seen = receiver.seen.lock().unwrap_or_else(PoisonError::into_inner);
    for Event { id, action } in events {
        if seen.insert(id) {
            println!("{id} {}", action.as_deref().unwrap_or("-"));
        }
    }
    StatusCode::NO_CONTENT
}

fn is_genuine(secret: &[u8], body: &[u8], headers: &HeaderMap) -> bool {
    let signature = headers.get("audit-signature").and_then(|value| value.to_str().ok());
    let Some(expected) = signature.and_then(|text| hex::decode(text.strip_prefix("sha256=")?).ok()) else {
        return false;
    };
    // Compares in constant time.
    Hmac::<Sha256>::new_from_slice(secret)
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(&expected).is_ok())
}
