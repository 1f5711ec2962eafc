//! Messages by minute, as a line.

use maud::{Markup, html};
use time::{Duration, OffsetDateTime};

use super::state::MINUTES;
use crate::view::{View, amount::grouped};

/// Of the drawing, in its own units.
const HEIGHT: u64 = 48;
/// Of a minute.
const STEP: u64 = 5;

/// What was written to the stream in each minute: from the sequences that it had at their ends. None where no two are known.
pub(super) fn messages(view: &View<'_>, published: &[(OffsetDateTime, i64)]) -> Option<Markup> {
    let minutes = by_minute(published, view.now)?;
    let most = minutes.iter().map(|(_, count)| *count).max().unwrap_or_default();
    // The last minute is at the right, however many are known.
    let all = u64::from(MINUTES.unsigned_abs());
    let first = all.saturating_sub(u64::try_from(minutes.len()).unwrap_or(all));
    let points: Vec<String> = (first..)
        .zip(&minutes)
        .map(|(place, (_, count))| format!("{},{}", place * STEP, HEIGHT - count * HEIGHT / most.max(1)))
        .collect();
    let width = STEP * (all - 1);
    let title = format!(
        "Messages written to the stream by minute, the last {} minutes: at most {} in one",
        minutes.len(),
        grouped(most)
    );
    Some(html! {
        svg.chart role="img" aria-label=(title) viewBox={ "0 -1 " (width) " " (HEIGHT + 2) } width="590" height="100" {
            title { (title) }
            line x1="0" x2=(width) y1=(HEIGHT) y2=(HEIGHT) stroke="currentColor" stroke-width="0.5" {}
            polyline points=(points.join(" ")) fill="none" stroke="currentColor" stroke-width="1.5" {}
        }
        p { "At most " (grouped(most)) " in a minute. Normal is what the application writes; a line at 0 while it writes means that no publisher works." }
        details {
            summary { "As numbers" }
            table {
                caption.visually-hidden { (title) }
                thead { tr { th scope="col" { "Minute" } th scope="col" { "Messages" } } }
                tbody { @for (minute, count) in minutes.iter().rev() { tr { th scope="row" { (view.time(*minute)) } td { (grouped(*count)) } } } }
            }
        }
    })
}

/// How many messages came in each minute, from the first one that is known to the one that goes on.
fn by_minute(published: &[(OffsetDateTime, i64)], now: OffsetDateTime) -> Option<Vec<(OffsetDateTime, u64)>> {
    let [(first, before), rest @ ..] = published else { return None };
    let mut before = *before;
    if rest.is_empty() {
        return None;
    }
    let mut counts = Vec::new();
    let mut minute = *first + Duration::MINUTE;
    while minute <= now && counts.len() < usize::try_from(MINUTES).unwrap_or_default() {
        let until = rest.iter().find(|(at, _)| *at == minute).map_or(before, |(_, sequence)| *sequence);
        // A mark of a stream that lost its end may be lower than the one before.
        counts.push((minute, until.saturating_sub(before).max(0).unsigned_abs()));
        before = until;
        minute += Duration::MINUTE;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_minute_without_a_mark_has_no_messages() {
        let now = datetime!(2026-05-15 10:05:30 UTC);
        let marks = [
            (datetime!(2026-05-15 10:01 UTC), 10),
            (datetime!(2026-05-15 10:02 UTC), 14),
            (datetime!(2026-05-15 10:04 UTC), 20),
        ];
        let counts: Vec<u64> =
            by_minute(&marks, now).expect("two marks").into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [4, 0, 6, 0]);
        assert_eq!(by_minute(&marks[..1], now), None);
        assert_eq!(by_minute(&[], now), None);
    }
}
