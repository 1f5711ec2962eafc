//! What is answered, and the headers that every answer has.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::Markup;

/// What a handler answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A page, to be put into the frame that all pages have.
    Page { title: String, body: Markup },
    /// A part of a page, which its script puts in.
    Part(Markup),
    /// A document.
    Json(String),
    /// Another place within the surface, with cookies to keep.
    Redirect { link: String, cookies: Vec<HeaderValue> },
    /// Something else.
    Whole(Response),
}

impl Answer {
    /// Another place within the surface.
    pub(crate) fn to(link: String) -> Self {
        Self::Redirect { link, cookies: Vec::new() }
    }
}

/// What a page may load: its own style sheet, script and icon, and nothing that stands in the page itself, so that no text of the timeline
/// can become one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What every answer has.
pub(crate) fn headers(report_to: Option<&str>) -> HeaderMap {
    let policy = match report_to {
        Some(path) => format!("{POLICY}; report-uri {path}"),
        None => POLICY.to_owned(),
    };
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY));
    let fixed: [(HeaderName, &'static str); 7] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    let mut headers: HeaderMap =
        fixed.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers
}

/// A document in HTML.
pub(crate) fn html(status: StatusCode, document: Markup) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, document.into_string()).into_response()
}

/// A document in JSON.
pub(crate) fn json(status: StatusCode, document: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, document).into_response()
}

/// Another place.
pub(crate) fn redirect(link: &str, cookies: Vec<HeaderValue>) -> Response {
    let Ok(location) = HeaderValue::from_str(link) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
