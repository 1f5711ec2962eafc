//! Which path leads where. The list is the only one: a surface that is not in it cannot be reached.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::map_response_with_state,
    routing::{MethodFilter, get, on},
};
use futures::future::FutureExt as _;
use tower_http::csrf::CsrfLayer;

use crate::{Surface, asked::Handler, assets, dispatch, pages, shared::Shared};

/// One path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) surface: Surface,
    /// Whether it is sent to, and not only opened.
    pub(crate) is_post: bool,
    pub(crate) handler: Handler,
}

macro_rules! route {
    ($path:literal, $surface:ident, $page:path) => {
        Route {
            path: $path,
            surface: Surface::$surface,
            is_post: false,
            handler: |asked| $page(asked).boxed(),
        }
    };
    (post $path:literal, $surface:ident, $page:path) => {
        Route {
            path: $path,
            surface: Surface::$surface,
            is_post: true,
            handler: |asked| $page(asked).boxed(),
        }
    };
}

/// All paths.
pub(crate) static ROUTES: &[Route] = &[
    route!("/", Home, pages::home::page),
    route!("/search", Search, pages::search::page),
    route!("/timeline", Timeline, pages::timeline::page),
    route!("/timeline/count", Count, pages::count::page),
    route!("/timeline/tail", Tail, pages::tail::page),
    route!("/transactions/{id}", Transaction, pages::transaction::page),
    route!("/row", Row, pages::row::page),
    route!("/actor", Actor, pages::actor::page),
    route!("/actions/{id}", Action, pages::action::page),
    route!("/correlation", Correlation, pages::correlation::page),
    route!("/incidents/{id}", Incident, pages::incident::page),
    route!("/saved", Saved, pages::saved::page),
    route!(post "/saved/save", SaveView, pages::saved::save),
    route!(post "/saved/rename", RenameView, pages::saved::rename),
    route!(post "/saved/remove", RemoveView, pages::saved::remove),
    route!("/help", Help, pages::help::page),
    route!("/pipeline", Pipeline, pages::pipeline::page),
    route!("/pipeline/failures", Failures, pages::pipeline::failures::page),
    route!("/pipeline/failure", Failure, pages::pipeline::failure::page),
    route!("/pipeline/act", Act, pages::pipeline::act::page),
    route!("/pipeline/redrive", Redrive, pages::pipeline::redrive::page),
    route!(post "/pipeline/redrive", Redrive, pages::pipeline::redrive::run),
    route!("/events/{id}", Event, pages::pipeline::event::page),
    route!(post "/preferences", Preferences, pages::preferences::save),
    route!("/coverage", Coverage, pages::coverage::page),
    route!("/coverage/checks", Checks, pages::checks::page),
    route!("/policy/redaction", Redaction, pages::redaction::page),
    route!("/policy/retention", Retention, pages::retention::page),
    route!("/evidence", Evidence, pages::evidence::page),
    route!(post "/evidence/verify", Verify, pages::verify::run),
    route!("/exports", Exports, pages::exports::page),
    route!(post "/exports/queue", QueueExport, pages::exports::queue::run),
    route!(post "/exports/cancel/{id}", CancelExport, pages::exports::cancel::run),
    route!("/exports/file/{id}", ExportFile, pages::exports::file::page),
    route!("/exports/now", ExportNow, pages::exports::now::page),
];

pub(crate) fn router(shared: Shared, csrf: CsrfLayer) -> Router {
    let shared = Arc::new(shared);
    let mut router = Router::new().route("/assets/{name}", get(assets::serve));
    for route in ROUTES {
        let shared = Arc::clone(&shared);
        let method = if route.is_post { MethodFilter::POST } else { MethodFilter::GET };
        let answer = move |request: Request| {
            dispatch::answer(Arc::clone(&shared), route.surface, route.handler, request)
        };
        router = router.route(route.path, on(method, answer));
    }
    let secure = map_response_with_state(Arc::clone(&shared), dispatch::secure);
    let elsewhere = move |request: Request| dispatch::nowhere(Arc::clone(&shared), request);
    router.fallback(elsewhere.clone()).method_not_allowed_fallback(elsewhere).layer(csrf).layer(secure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_surface_can_be_reached() {
        for surface in Surface::ALL {
            assert!(ROUTES.iter().any(|route| route.surface == surface), "{surface:?}");
        }
    }
}
