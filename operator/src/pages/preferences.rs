//! Keeps how the surface is liked, in cookies of the browser.

use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    preferences::Preferences,
};

pub(crate) async fn save(asked: Asked) -> Answered {
    let cookies = Preferences::cookies(|name| asked.form.get(name).map(str::to_owned), asked.is_secure);
    let back = asked.form.get("back").filter(|link| is_within(link)).unwrap_or_default();
    Ok(Answer::Redirect { link: asked.links.to(back), cookies })
}

/// Whether a link leads to this surface and nowhere else: only what begins with a plain name does.
fn is_within(link: &str) -> bool {
    let path = link.split(['?', '#']).next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    path.chars().all(is_plain)
        && !path.starts_with('/')
        && !path.contains("//")
        && link.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out_of_the_surface() {
        for link in [
            "",
            "timeline",
            "timeline?table=posts&from=2026-01-01T00:00:00Z",
            "transactions/0c3d",
            "row?key=%7B//",
        ] {
            assert!(is_within(link), "{link}");
        }
        for link in [
            "/",
            "//evil",
            "https://evil",
            "javascript:x",
            "../x",
            "\\evil",
            "a//b",
            "timelin\u{e9}",
            "x:y",
            "timeline?a\r\nb",
            "timeline?\0",
            "timeline?a b",
        ] {
            assert!(!is_within(link), "{link}");
        }
    }
}
