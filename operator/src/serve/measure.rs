//! How many requests, and how long they took.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use common::process::telemetry::names;
use metrics::{counter, histogram};

/// Classes of answers.
pub(super) const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Counts a request. What does not fit a route has one name, whatever it is.
pub(super) async fn measured(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let page = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let page = page.as_ref().map_or("other", MatchedPath::as_str).to_owned();
    let class = usize::from(response.status().as_u16() / 100).saturating_sub(2);
    counter!(names::OPERATOR_REQUESTS, "status" => CLASSES[class.min(CLASSES.len() - 1)]).increment(1);
    histogram!(names::OPERATOR_SECONDS, "page" => page).record(begin.elapsed());
    response
}
