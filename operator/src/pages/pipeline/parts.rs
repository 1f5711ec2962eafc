//! What these pages are made of.

use maud::{Markup, html};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::view::{View, amount::grouped, copy, text};

/// Headings of the runbook, `docs/operations.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heading {
    Start,
    LagGrows,
    Unready,
    StreamFull,
    FailuresAppear,
    CaptureBroken,
    ReconcileDiffers,
}

impl Heading {
    #[cfg(test)]
    const ALL: [Self; 7] = [
        Self::Start,
        Self::LagGrows,
        Self::Unready,
        Self::StreamFull,
        Self::FailuresAppear,
        Self::CaptureBroken,
        Self::ReconcileDiffers,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "Operations",
            Self::LagGrows => "Lag grows",
            Self::Unready => "Unready",
            Self::StreamFull => "Stream full",
            Self::FailuresAppear => "Failures appear",
            Self::CaptureBroken => "Capture broken",
            Self::ReconcileDiffers => "Reconcile differs",
        }
    }
}

/// Where the runbook says more. Nobody here knows where its pages are.
pub(super) fn runbook(heading: Heading) -> Markup {
    html! { span.none { "docs/operations.md: " cite { (heading.as_str()) } } }
}

/// A command, to be copied.
pub(super) fn command(command: &str) -> Markup {
    html! { code.command { (text::cut(command, 1_000)) } " " (copy("command", command)) }
}

/// Whether something is as it should be, in words.
pub(super) fn verdict(is_normal: bool) -> Markup {
    html! { @if is_normal { span.status.ok { "normal" } } @else { span.status.error { "not normal" } } }
}

/// A number that was counted up to a limit.
pub(super) fn more(number: i64, limit: i64) -> Markup {
    html! { (grouped(number.max(0))) @if number >= limit { "+" } }
}

/// A time that came as text.
pub(super) fn time(view: &View<'_>, text: &str) -> Markup {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(at) => view.time(at),
        Err(_) => text::line(text),
    }
}

/// The same with its date and every digit.
pub(super) fn exact_time(view: &View<'_>, text: &str) -> Markup {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(at) => view.exact_time(at),
        Err(_) => text::line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_heading_is_in_the_runbook() {
        let runbook = include_str!("../../../../docs/operations.md");
        for heading in Heading::ALL {
            let is_there =
                runbook.lines().any(|line| line.trim_start_matches('#').trim() == heading.as_str());
            assert!(is_there, "{heading:?}");
        }
    }
}
