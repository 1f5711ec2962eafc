//! What these pages are made of.

use maud::{Markup, html};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::view::{View, amount::grouped, command::quoted, copy, text};

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

/// A word of a command, in quotes where it needs them.
pub(super) fn word(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// Whether something is as it should be, in words.
pub(super) fn verdict(is_normal: bool) -> Markup {
    html! { @if is_normal { span.status.ok { "normal" } } @else { span.status.error { "not normal" } } }
}

/// A number that was counted up to a limit.
pub(super) fn more(number: i64, limit: i64) -> Markup {
    html! { (grouped(number.max(0))) @if number >= limit { "+" } }
}

/// How long ago, in the largest unit that fits.
pub(super) fn ago(seconds: f64) -> String {
    let (length, unit) = match seconds {
        seconds if seconds < 100.0 => return format!("{:.1} s ago", seconds.max(0.0)),
        seconds if seconds < 6_000.0 => (seconds / 60.0, "min"),
        seconds if seconds < 360_000.0 => (seconds / 3_600.0, "h"),
        seconds => (seconds / 86_400.0, "days"),
    };
    format!("{length:.0} {unit} ago")
}

/// A size.
pub(super) fn bytes(bytes: i64) -> String {
    let bytes = bytes.max(0).unsigned_abs();
    match bytes {
        0..10_240 => format!("{} bytes", grouped(bytes)),
        10_240..10_485_760 => format!("{} KiB", grouped(bytes >> 10)),
        _ => format!("{} MiB", grouped(bytes >> 20)),
    }
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

    #[test]
    fn an_age_has_the_largest_unit_that_fits() {
        for (seconds, text) in [
            (-1.0, "0.0 s ago"),
            (0.25, "0.2 s ago"),
            (99.0, "99.0 s ago"),
            (300.0, "5 min ago"),
            (7_200.0, "2 h ago"),
            (864_000.0, "10 days ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(
            (bytes(8_192), bytes(65_536), bytes(1 << 30)),
            ("8,192 bytes".into(), "64 KiB".into(), "1,024 MiB".into())
        );
    }
}
