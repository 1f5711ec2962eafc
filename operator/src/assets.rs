//! What pages load: each under a name that changes with its contents, so that browsers may keep it forever.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// One file.
struct Asset {
    name: String,
    kind: &'static str,
    contents: &'static [u8],
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", "text/css; charset=utf-8", include_bytes!("../assets/operator.css")));
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("js", "text/javascript; charset=utf-8", include_bytes!("../assets/operator.js"))
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_bytes!("../assets/operator.svg")));

impl Asset {
    fn new(extension: &str, kind: &'static str, contents: &'static [u8]) -> Self {
        let hash = blake3::hash(contents).to_hex();
        Self { name: format!("operator.{}.{extension}", &hash[..16]), kind, contents }
    }
}

/// The path of the style sheet within the surface.
pub(crate) fn style() -> String {
    format!("assets/{}", STYLE.name)
}

/// The path of the script.
pub(crate) fn script() -> String {
    format!("assets/{}", SCRIPT.name)
}

/// The path of the icon.
pub(crate) fn icon() -> String {
    format!("assets/{}", ICON.name)
}

/// Answers with one. They hold nothing of the timeline, so that nobody is asked whether they may be seen.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers =
        [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, asset.contents).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_stays_small() {
        assert!(SCRIPT.contents.len() < 8 * 1024, "{} bytes", SCRIPT.contents.len());
    }
}
