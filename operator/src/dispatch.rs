//! The way of a request: who asks, whether they may, their turn, the answer, and what becomes of everything that fails.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{OriginalUri, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use futures::future::FutureExt as _;
use serde_json::json;
use threadline::telemetry::{Authorization, operator_authorized};
use time::OffsetDateTime;

use crate::{
    Ask, Denied, Grant, Surface,
    answer::{self, Answer},
    asked::{Answered, Asked, Handler},
    failure::Failure,
    links::Links,
    pairs::Pairs,
    preferences::Preferences,
    shared::Shared,
    view::layout,
};

/// The largest form.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Answers a request that came along a route.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    surface: Surface,
    handler: Handler,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(link) = without_slash(surface, &parts) {
        return answer::redirect(&link, Vec::new());
    }
    let granted = authorize(&shared, &parts, surface).await;
    let frame = Frame::of(&shared, &parts, surface, granted.as_ref().ok());
    let granted = granted.and_then(|grant| refused(surface, &parts).map_or(Ok(grant), Err));
    let answered = match granted {
        Ok(grant) => serve(&shared, (surface, handler), &parts, body, grant).await,
        Err(failure) => Err(failure),
    };
    frame.respond(answered)
}

/// Answers a request that leads nowhere, to somebody who may read: to others it is closed, as everything is.
pub(crate) async fn nowhere(shared: Arc<Shared>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let granted = authorize(&shared, &parts, Surface::Home).await;
    let frame = Frame::of(&shared, &parts, Surface::Home, granted.as_ref().ok());
    frame.respond(Err(granted.err().unwrap_or(Failure::NoPage)))
}

/// Where the surface is opened under its own name without a slash behind it, links would lead beside it: to the same with one.
fn without_slash(surface: Surface, parts: &Parts) -> Option<String> {
    let original = parts.extensions.get::<OriginalUri>().map_or(parts.uri.path(), |uri| uri.path());
    let name = original.rsplit('/').next().filter(|name| surface == Surface::Home && !name.is_empty())?;
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("./{name}/{query}"))
}

async fn authorize(shared: &Shared, parts: &Parts, surface: Surface) -> Result<Grant, Failure> {
    let ask = Ask { surface, capability: surface.capability() };
    let asked = AssertUnwindSafe(async { shared.auth.authorize(parts, ask).await }).catch_unwind();
    let nobody = || {
        Failure::Denied(Denied::new(
            "Whether you may see this could not be found out. Try again in a moment.",
        ))
    };
    let (granted, result) = match tokio::time::timeout(shared.limits.authorize, asked).await {
        Ok(Ok(Ok(grant))) if grant.allows(ask.capability) => (Ok(grant), Authorization::Granted),
        Ok(Ok(Ok(_))) => (Err(Failure::Closed(ask.capability)), Authorization::Denied),
        Ok(Ok(Err(denied))) => (Err(Failure::Denied(denied)), Authorization::Denied),
        Ok(Err(_)) => {
            tracing::error!(?surface, "the host's authorization panicked: denied");
            (Err(nobody()), Authorization::Error)
        }
        Err(_) => {
            tracing::error!(?surface, "the host's authorization took too long: denied");
            (Err(nobody()), Authorization::Error)
        }
    };
    operator_authorized(result);
    granted
}

async fn serve(
    shared: &Arc<Shared>,
    (surface, handler): (Surface, Handler),
    parts: &Parts,
    body: Body,
    grant: Grant,
) -> Answered {
    // Before its turn: whoever sends slowly keeps nobody waiting.
    let form = form(shared, parts, body).await?;
    let _turn = shared.turns.take(grant.actor()).await.ok_or(Failure::Busy)?;
    let raw_query = parts.uri.query().unwrap_or_default();
    let actor = grant.actor().clone();
    let asked = Asked {
        shared: Arc::clone(shared),
        grant,
        links: Links::of(parts.uri.path()),
        preferences: Preferences::read(&parts.headers),
        query: Pairs::read(raw_query.as_bytes()),
        path: parts.uri.path().trim_start_matches('/').to_owned(),
        form,
        last_event: parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned),
        now: OffsetDateTime::now_utc(),
        is_secure: is_secure(parts),
    };
    let answered = AssertUnwindSafe(handler(asked)).catch_unwind();
    let answered = match tokio::time::timeout(shared.limits.request, answered).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(Failure::Broken),
        Err(_) => Err(Failure::TooSlow),
    };
    if let Some(viewings) = shared.viewings.as_ref().filter(|_| answered.is_ok() && surface.is_viewing()) {
        viewings.record(actor, surface, raw_query).await;
    }
    answered
}

/// What was sent with it. What comes with a request that only reads is left where it is.
async fn form(shared: &Shared, parts: &Parts, body: Body) -> Result<Pairs, Failure> {
    if parts.method != Method::POST {
        return Ok(Pairs::default());
    }
    match tokio::time::timeout(shared.limits.request, to_bytes(body, FORM_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(Pairs::read(&bytes)),
        Ok(Err(_)) => Err(Failure::unusable("form_too_large", "A form has at most 64 KiB.")),
        Err(_) => Err(Failure::unusable("form_too_slow", "The form did not come in time. Send it again.")),
    }
}

/// Refuses what would be recorded as handed out and is not: a request for headers alone, and one that a page of another site makes a browser
/// send in somebody's name.
fn refused(surface: Surface, parts: &Parts) -> Option<Failure> {
    if !matches!(surface, Surface::ExportNow | Surface::ExportFile) {
        return None;
    }
    let site = parts.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if parts.method == Method::HEAD || matches!(site, Some(b"cross-site" | b"same-site")) {
        let text = "A file is handed out to whoever asks for it on these pages: open the exports here, and download it there.";
        return Some(Failure::Denied(Denied::new(text)));
    }
    None
}

/// Whether a browser has come over TLS: it says so itself, in the origin or referrer of a form.
fn is_secure(parts: &Parts) -> bool {
    [header::ORIGIN, header::REFERER]
        .into_iter()
        .any(|name| parts.headers.get(name).is_some_and(|value| value.as_bytes().starts_with(b"https://")))
}

/// What an answer is put into.
struct Frame {
    shared: Arc<Shared>,
    surface: Surface,
    links: Links,
    preferences: Preferences,
    grant: Option<Grant>,
    wants_json: bool,
    /// The page itself, as a link: where a form comes back to.
    own: String,
    /// The page as JSON; none of what was sent.
    as_json: Option<String>,
}

impl Frame {
    fn of(shared: &Arc<Shared>, parts: &Parts, surface: Surface, grant: Option<&Grant>) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let links = Links::of(parts.uri.path());
        let path = parts.uri.path().trim_start_matches('/');
        // What was sent is no page to come back to: what is above it is.
        let is_sent = parts.method == Method::POST;
        let back = if is_sent { path.rsplit_once('/').map_or("", |(above, _)| above) } else { path };
        let question = if query.is_empty() { String::new() } else { format!("?{query}") };
        let separator = if query.is_empty() { "?" } else { "&" };
        Self {
            shared: Arc::clone(shared),
            surface,
            own: format!("{back}{question}"),
            as_json: (!is_sent).then(|| format!("{}{question}{separator}format=json", links.to(path))),
            links,
            preferences: Preferences::read(&parts.headers),
            grant: grant.cloned(),
            wants_json: Pairs::read(query.as_bytes()).is("format", "json"),
        }
    }

    fn respond(self, answered: Answered) -> Response {
        let status = answered.as_ref().err().map_or(StatusCode::OK, Failure::status);
        match answered {
            Ok(Answer::Page { title, body }) => self.page(status, &title, &body),
            Ok(Answer::Part(part)) => answer::html(status, part),
            Ok(Answer::Json(document)) => answer::json(status, document),
            Ok(Answer::Redirect { link, cookies }) => answer::redirect(&link, cookies),
            Ok(Answer::Whole(response)) => response,
            Err(failure) if self.wants_json => {
                let document = json!({"error": {"term": failure.term(), "text": failure.text()}});
                answer::json(status, document.to_string())
            }
            Err(Failure::Denied(Denied { login: Some(login), .. })) => answer::redirect(&login, Vec::new()),
            Err(failure) => self.page(status, failure.title(), &layout::failure(&failure)),
        }
    }

    fn page(&self, status: StatusCode, title: &str, body: &maud::Markup) -> Response {
        let shell = layout::Shell {
            name: &self.shared.title,
            offers: &|capability| self.shared.offers(capability),
            surface: self.surface,
            links: &self.links,
            preferences: &self.preferences,
            grant: self.grant.as_ref(),
            own: &self.own,
            as_json: self.as_json.as_deref().filter(|_| status == StatusCode::OK),
        };
        answer::html(status, layout::document(&shell, title, body))
    }
}

/// Adds the headers that every answer has.
pub(crate) async fn secure(State(shared): State<Arc<Shared>>, mut response: Response) -> Response {
    response.headers_mut().extend(answer::headers(shared.csp_report.as_deref()));
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}
