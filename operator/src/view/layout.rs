//! The frame of all pages.

use maud::{DOCTYPE, Markup, html};

use crate::{
    Capability, Grant, Surface, assets,
    failure::Failure,
    links::Links,
    preferences::{Preferences, Theme},
};

/// What the frame of a page is made of.
pub(crate) struct Shell<'a> {
    /// What the surface is called.
    pub(crate) name: &'a str,
    pub(crate) surface: Surface,
    pub(crate) links: &'a Links,
    pub(crate) preferences: &'a Preferences,
    /// Whether there is anything to show behind a capability.
    pub(crate) offers: &'a dyn Fn(Capability) -> bool,
    /// None where nobody was let in.
    pub(crate) grant: Option<&'a Grant>,
    /// The path and query of the page within the surface.
    pub(crate) own: &'a str,
    /// The page as JSON, where there is one.
    pub(crate) as_json: Option<&'a str>,
}

/// Zones that are offered; a cookie may hold any other.
const ZONES: [&str; 10] = [
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
];

/// Entries of the navigation: a surface, its path and its name.
const NAVIGATION: [(Surface, &str, &str); 11] = [
    (Surface::Home, "", "Home"),
    (Surface::Timeline, "timeline", "Timeline"),
    (Surface::Saved, "saved", "Saved"),
    (Surface::Exports, "exports", "Exports"),
    (Surface::Coverage, "coverage", "Coverage"),
    (Surface::Redaction, "policy/redaction", "Redaction"),
    (Surface::Retention, "policy/retention", "Retention"),
    (Surface::Evidence, "evidence", "Evidence"),
    (Surface::Pipeline, "pipeline", "Pipeline"),
    (Surface::Failures, "pipeline/failures", "Failures"),
    (Surface::Help, "help", "Help"),
];

/// A whole document.
pub(crate) fn document(shell: &Shell<'_>, title: &str, body: &Markup) -> Markup {
    let Shell { name, links, preferences, .. } = shell;
    let density = if preferences.is_dense { "dense" } else { "roomy" };
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(preferences.theme.as_str()) data-density=(density) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (name) }
                link rel="icon" type="image/svg+xml" href=(links.to(&assets::icon()));
                link rel="stylesheet" href=(links.to(&assets::style()));
                script type="module" src=(links.to(&assets::script())) {}
            }
            body data-root=(links.to("")) {
                a.skip href="#main" { "Skip to the content" }
                (header(shell))
                main #main tabindex="-1" { h1 { (title) } (body) }
                (footer(shell))
                div #said role="status" aria-live="polite" {}
            }
        }
    }
}

/// Whether a place is there, and for them.
fn is_open(shell: &Shell<'_>, grant: &Grant, surface: Surface) -> bool {
    let capability = surface.capability();
    grant.allows(capability) && (shell.offers)(capability)
}

fn header(shell: &Shell<'_>) -> Markup {
    let Shell { name, links, grant, .. } = shell;
    html! {
        header.top {
            a.brand href=(links.to("")) { (name) }
            @if let Some(grant) = grant {
                form.search action=(links.to("search")) role="search" {
                    label.visually-hidden for="search" { "An id, a row, an actor, or a filter" }
                    input #search name="q" type="search" placeholder="id, posts:7, user:u1, or a filter" autocomplete="off" spellcheck="false";
                    button { "Find" }
                }
                p.who { (super::text::line(grant.name())) @if !grant.scope().is_everything() { " " span.scope { "limited view" } } }
                nav aria-label="Pages" {
                    ul {
                        @for (surface, path, title) in NAVIGATION.iter().filter(|entry| is_open(shell, grant, entry.0)) {
                            @let current = (*surface == shell.surface).then_some("page");
                            li { a href=(links.to(path)) aria-current=[current] { (title) } }
                        }
                    }
                }
            }
        }
    }
}

fn footer(shell: &Shell<'_>) -> Markup {
    let Shell { links, preferences, own, as_json, .. } = shell;
    let zone = preferences.zone_name();
    html! {
        footer.bottom {
            ul.actions {
                @if let Some(link) = as_json { li { a href=(link) { "As JSON" } } }
                li { button.copy type="button" data-copy-link="" hidden { "Copy link" } }
            }
            @if shell.grant.is_some() {
                form.preferences action=(links.to("preferences")) method="post" {
                    input type="hidden" name="back" value=(own);
                    label for="theme" { "Theme" }
                    select #theme name="theme" {
                        @for theme in Theme::ALL {
                            option value=(theme.as_str()) selected[theme == preferences.theme] { (theme.as_str()) }
                        }
                    }
                    label for="zone" { "Times in" }
                    select #zone name="zone" {
                        @if !ZONES.contains(&zone) { option value=(zone) selected { (zone) } }
                        @for name in ZONES { option value=(name) selected[name == zone] { (name) } }
                    }
                    label for="density" { "Lists" }
                    select #density name="density" {
                        option value="roomy" selected[!preferences.is_dense] { "roomy" }
                        option value="dense" selected[preferences.is_dense] { "dense" }
                    }
                    button { "Apply" }
                }
            }
        }
    }
}

/// Why there is no page.
pub(crate) fn failure(failure: &Failure) -> Markup {
    html! {
        section.failure role="alert" {
            p { (super::text::cut(&failure.text(), 2_000)) }
            p.term { "Error: " code { (failure.term()) } }
        }
    }
}
