//! Numbers for people.

use maud::{Markup, html};
use time::{Duration, OffsetDateTime};

use super::View;
use crate::kept::Reading;

/// With commas between thousands.
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes, with at most one digit behind the point.
pub(crate) fn bytes(bytes: i64) -> String {
    let mut tenths = bytes.saturating_mul(10);
    let mut units = ["bytes", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next();
    for next in units {
        if tenths < 10_000 {
            break;
        }
        tenths /= 1_000;
        unit = Some(next);
    }
    let unit = unit.unwrap_or_default();
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// A length of time in its largest unit.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.whole_seconds();
    let (number, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// How long ago.
pub(crate) fn ago(since: Duration) -> String {
    if since < Duration::SECOND { "just now".to_owned() } else { format!("{} ago", span(since)) }
}

/// A length of time as a database measures it.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::checked_seconds_f64(seconds).unwrap_or(Duration::MAX)
}

/// What stands in a command for what only whoever runs it knows.
const TO_REPLACE: [&str; 2] = ["TYPE:ID", "TEXT"];

/// Something to run, and to copy where it can be run as it is.
pub(crate) fn to_run(command: &str) -> Markup {
    let to_replace: Vec<&str> =
        TO_REPLACE.into_iter().filter(|word| command.split(' ').any(|one| one == *word)).collect();
    html! {
        span.command {
            code { (super::text::cut(command, 1_000)) } " "
            @if to_replace.is_empty() { (super::copy("command", command)) } @else { "(with your own in place of " (to_replace.join(" and ")) ")" }
        }
    }
}

impl View<'_> {
    /// A time, and how long ago it was.
    pub(crate) fn age(&self, at: OffsetDateTime) -> Markup {
        let since = self.now - at;
        html! {
            (self.time(at))
            @if since >= Duration::ZERO { " (" (ago(since)) ")" } @else { " (in " (span(-since)) ")" }
        }
    }

    /// When something was read, and that it is old where it is.
    pub(crate) fn read<T>(&self, reading: &Reading<T>) -> Markup {
        html! {
            @if let Some(failure) = &reading.failure {
                p.stale role="status" { strong { "This is old." } " It could not be looked at again: " (failure.text()) }
            }
            p { "Looked at: " (self.age(reading.at)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (-1_000, "-1,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (number, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1 kB"),
            (1_550, "1.5 kB"),
            (8_192, "8.1 kB"),
            (12_000_000, "12 MB"),
            (i64::MAX, "922337.2 TB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }

    #[test]
    fn a_length_of_time_has_its_largest_unit() {
        for (length, text) in [
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(span(Duration::seconds(length)), text);
            assert_eq!(ago(Duration::seconds(length)), format!("{text} ago"));
        }
        for ended in [0.2, -1.0] {
            assert_eq!(ago(seconds(ended)), "just now");
        }
    }
}
