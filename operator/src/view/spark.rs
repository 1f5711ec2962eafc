//! Numbers as a line that fits into a cell of a table.

use maud::{Markup, html};

use super::amount::grouped;

/// Of the drawing, in pixels.
const HEIGHT: i64 = 20;
/// Between two numbers.
const STEP: usize = 6;

/// Numbers from the left to the right; `what` says what they are to whoever does not see the line, who is read them.
pub(crate) fn line(what: &str, numbers: &[i64]) -> Markup {
    let most = numbers.iter().copied().max().unwrap_or_default().max(1);
    let points: Vec<String> = numbers
        .iter()
        .enumerate()
        .map(|(place, number)| format!("{},{}", place * STEP, HEIGHT - number.max(&0) * HEIGHT / most))
        .collect();
    let read: Vec<String> = numbers.iter().map(|number| grouped(*number)).collect();
    let about = format!("{what}: {}", read.join(" · "));
    let width = STEP * numbers.len().saturating_sub(1);
    html! {
        svg.spark role="img" aria-label=(about) viewBox={ "0 -1 " (width) " " (HEIGHT + 2) } width=(width) height=(HEIGHT + 2) {
            title { (about) }
            polyline points=(points.join(" ")) fill="none" stroke="currentColor" stroke-width="1.5" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_from_the_bottom_to_the_top_and_is_read_as_numbers() {
        let line = line("Changes", &[0, 5, 10, 1_000, 0]).into_string();
        assert!(line.contains("points=\"0,20 6,20 12,20 18,0 24,20\""), "{line}");
        assert!(line.contains("<title>Changes: 0 · 5 · 10 · 1,000 · 0</title>"), "{line}");
        assert!(super::line("Changes", &[0, 0]).into_string().contains("points=\"0,20 6,20\""));
    }
}
