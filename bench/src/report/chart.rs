//! `chart.svg`: the ratios beside their goals, and rows a second beside peers. Written by hand; it needs no library.

use std::fmt::Write as _;

use super::{
    goals::{Bar, END_TO_END, Goal, Judgement, PIPELINE},
    number,
    summary::{Group, Ratio, Summary},
    text,
};

const WIDTH: f64 = 860.0;
/// Labels end left of it, bars begin at it.
const LEFT: f64 = 252.0;
const RIGHT: f64 = 640.0;
/// Numbers end here, beside the bars and not on them, so that nothing overlaps.
const VALUES: f64 = 704.0;
const REMARKS: f64 = 720.0;
const MARGIN: f64 = 20.0;
/// A longer label would leave the picture.
const LABEL_CHARS: usize = 32;

/// Its own background, and both schemes, so that it can be read on any page.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#24292f}
.title{font-size:15px;font-weight:600}.name{font-weight:600}.soft{fill:#656d76}.end{text-anchor:end}.mid{text-anchor:middle}
.card,.back{fill:#ffffff}.card{stroke:#d0d7de}.met{fill:#3f7fbf}.missed{fill:#c4692b}.beside{fill:#a3abb4}
.grid{stroke:#d8dee4}.limit{stroke:#656d76;stroke-dasharray:4 3}.goal{stroke:#24292f;stroke-width:2.5}.range{stroke:#24292f;stroke-opacity:.65}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.card,.back{fill:#0d1117}.card{stroke:#3d444d}
.met{fill:#4f92d6}.missed{fill:#d98044}.beside{fill:#6a727c}.grid{stroke:#2a313a}.limit{stroke:#9198a1}.goal,.range{stroke:#e6edf3}}
";

/// What is drawn so far, and how far down.
struct Drawing {
    body: String,
    y: f64,
}

/// The whole picture.
pub(crate) fn chart(summary: &Summary, judgement: &Judgement) -> String {
    let mut drawing = Drawing { body: String::new(), y: 34.0 };
    ratios(&mut drawing, judgement);
    drawing.y += 44.0;
    peers(&mut drawing, summary);
    let height = drawing.y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>Ratios beside their goals, and rows a second beside peers</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n{}</svg>\n",
        WIDTH - 1.0,
        height - 1.0,
        drawing.body
    )
}

/// Every goal that is a part of its limit. How many times a peer's rate it is, the second panel shows.
fn ratios(drawing: &mut Drawing, judgement: &Judgement) {
    let shown = judgement.goals.iter().filter_map(|goal| Some((goal, goal.bar.as_ref()?)));
    let shown: Vec<_> = shown.filter(|(_, bar)| bar.target <= 1.0).collect();
    drawing.text("title", MARGIN, "Beside the limit");
    drawing.text("soft", LEFT, "dashed: the limit, 1.00 · mark: the goal · thin line: all repeats");
    drawing.text("soft end", VALUES, "ratio");
    drawing.y += 14.0;
    let top = drawing.y;
    let max = shown.iter().map(|(_, bar)| axis_end(bar)).fold(1.2, f64::max);
    let scale = |value: f64| LEFT + (value / max).clamp(0.0, 1.0) * (RIGHT - LEFT);
    let mut groups = Drawing { body: String::new(), y: top };
    // Below the first name.
    let top = top + 24.0;
    for (goal, bar) in shown {
        group(&mut groups, goal, bar, &scale);
    }
    // The grid lies under the bars.
    drawing.y = groups.y + 6.0;
    let mut tick = 0.0;
    while tick <= max + 1e-9 {
        let class = if (tick - 1.0_f64).abs() < 1e-9 { "limit" } else { "grid" };
        drawing.line(class, scale(tick), top, drawing.y);
        tick += 0.2;
    }
    drawing.y += 16.0;
    let mut tick = 0.0;
    while tick <= max + 1e-9 {
        drawing.text("soft mid", scale(tick), &format!("{tick:.1}"));
        tick += 0.2;
    }
    drawing.body.push_str(&groups.body);
}

/// In steps of a fifth, and at most 2: what is beyond is cut, and its number says so.
fn axis_end(bar: &Bar) -> f64 {
    let most = bar.beside.iter().map(|(_, ratio)| ratio.most).chain(bar.ratio.map(|ratio| ratio.most));
    (most.fold(0.0, f64::max).min(2.0) * 5.0).ceil() / 5.0
}

fn group(drawing: &mut Drawing, goal: &Goal, bar: &Bar, scale: &impl Fn(f64) -> f64) {
    drawing.y += 20.0;
    drawing.interrupt();
    drawing.text("name", MARGIN, goal.name);
    drawing.y += 6.0;
    let class = if goal.met == Some(true) { "met" } else { "missed" };
    drawing.ratio(class, 14.0, &bar.who, bar.ratio, scale);
    drawing.line("goal", scale(bar.target), drawing.y - 4.0, drawing.y + 18.0);
    drawing.y += 11.5;
    drawing.text("end", VALUES, &goal.measured);
    drawing.text("soft", REMARKS, &format!("goal {}: {}", bar.target, text::mark(goal)));
    drawing.y += 8.5;
    for (name, ratio) in &bar.beside {
        drawing.ratio("beside", 10.0, name, Some(*ratio), scale);
        drawing.y += 9.5;
        drawing.text("soft end", VALUES, &number::ratio(Some(ratio.median)));
        drawing.y += 6.5;
    }
}

/// On a logarithmic scale, as the rates are decades apart.
fn peers(drawing: &mut Drawing, summary: &Summary) {
    let mut groups: Vec<_> = summary.of_case(END_TO_END).collect();
    groups.sort_by(|a, b| b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0)));
    drawing.text("title", MARGIN, "End to end");
    drawing.text("soft", LEFT, "rows a second; the scale is logarithmic");
    drawing.text("soft end", VALUES, "rows/s");
    drawing.text("soft", REMARKS, "pipeline / peer");
    drawing.y += 14.0;
    if groups.is_empty() {
        drawing.y += 16.0;
        drawing.text("soft", LEFT, "not measured");
        return;
    }
    let rates = || groups.iter().filter_map(|group| group.rate).filter(|rate| *rate > 0.0);
    // The smallest bar needs a length too, so that the axis begins below it.
    let first = (rates().reduce(f64::min).unwrap_or(1.0).log10() - 0.05).floor();
    let last = rates().fold(1.0, f64::max).log10().ceil().max(first + 1.0);
    let scale = |rate: f64| LEFT + ((rate.log10() - first) / (last - first)).clamp(0.0, 1.0) * (RIGHT - LEFT);
    let top = drawing.y;
    drawing.y = top + 22.0 * f64::from(u32::try_from(groups.len()).unwrap_or(u32::MAX)) + 8.0;
    decades(drawing, first, last, top, &scale);
    let bottom = drawing.y;
    drawing.y = top + 8.0;
    for group in groups {
        peer(drawing, summary, group, &scale);
    }
    drawing.y = bottom;
}

fn decades(drawing: &mut Drawing, first: f64, last: f64, top: f64, scale: &impl Fn(f64) -> f64) {
    let bottom = drawing.y;
    drawing.y += 16.0;
    let mut decade = first;
    while decade <= last {
        let rate = 10_f64.powf(decade);
        drawing.line("grid", scale(rate), top, bottom);
        let label = if rate < 1.0 { rate.to_string() } else { number::rate(Some(rate)).replace(".0", "") };
        drawing.text("soft mid", scale(rate), &label);
        decade += 1.0;
    }
}

fn peer(drawing: &mut Drawing, summary: &Summary, group: &Group, scale: &impl Fn(f64) -> f64) {
    let class = if group.variant == PIPELINE { "met" } else { "beside" };
    if let Some(rate) = group.rate.filter(|rate| *rate > 0.0) {
        drawing.bar(class, 14.0, scale(rate));
    }
    drawing.y += 11.5;
    drawing.text("end", LEFT - 10.0, group.variant);
    drawing.text("end", VALUES, &number::rate(group.rate));
    if group.variant != PIPELINE {
        let ratio = summary.ratio(END_TO_END, PIPELINE, END_TO_END, group.variant);
        drawing.text("soft", REMARKS, &number::ratio(ratio.map(|ratio| ratio.median)));
    }
    drawing.y += 10.5;
}

impl Drawing {
    /// On the line at which the drawing has arrived.
    fn text(&mut self, class: &str, x: f64, text: &str) {
        let text = if text.chars().count() > LABEL_CHARS && class == "end" {
            text.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
        } else {
            text.to_owned()
        };
        let text = escaped(&text);
        let _ = writeln!(self.body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>", self.y);
    }

    /// The grid behind a line of text.
    fn interrupt(&mut self) {
        let (y, width) = (self.y - 12.0, RIGHT - LEFT + 4.0);
        let _ = writeln!(
            self.body,
            "<rect class=\"back\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16.0\"/>",
            LEFT - 2.0
        );
    }

    fn line(&mut self, class: &str, x: f64, top: f64, bottom: f64) {
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>"
        );
    }

    fn bar(&mut self, class: &str, height: f64, end: f64) {
        let (y, width) = (self.y, end - LEFT);
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{LEFT:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
    }

    /// A bar, its label and the range of its repeats.
    fn ratio(
        &mut self,
        class: &str,
        height: f64,
        label: &str,
        ratio: Option<Ratio>,
        scale: &impl Fn(f64) -> f64,
    ) {
        if let Some(ratio) = ratio {
            self.bar(class, height, scale(ratio.median));
            if ratio.repeats > 1 {
                let (y, least, most) = (self.y + height / 2.0, scale(ratio.least), scale(ratio.most));
                let _ = writeln!(
                    self.body,
                    "<line class=\"range\" x1=\"{least:.1}\" y1=\"{y:.1}\" x2=\"{most:.1}\" y2=\"{y:.1}\"/>"
                );
            }
        }
        let top = self.y;
        self.y += height / 2.0 + 4.5;
        self.text("end", LEFT - 10.0, label);
        self.y = top;
    }
}

/// As text of XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::report::{Report, example};

    #[test]
    fn names_are_escaped_and_cut() {
        let mut run = example::run();
        let name = format!("a<b>&{}", "c".repeat(40));
        run.samples.push(example::sample("end to end", &name, 0, 10, 1.0));
        let chart = Report::of(&run).chart();
        assert!(chart.contains(&format!(">a&lt;b&gt;&amp;{}…<", "c".repeat(26))), "{chart}");
    }

    #[test]
    fn a_peer_of_which_nothing_arrived_has_no_bar() {
        let mut run = example::run();
        run.samples.retain(|sample| sample.case == "end to end");
        run.samples.iter_mut().for_each(|sample| sample.rows = 0);
        let chart = Report::of(&run).chart();
        assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }
}
