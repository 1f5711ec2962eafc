//! The tables for the terminal.

use std::fmt::Write as _;

use super::{
    goals::{Goal, Judgement},
    number,
    summary::{Group, Process, Summary},
};

/// The goals, then every variant.
pub(crate) fn text(summary: &Summary, judgement: &Judgement) -> String {
    let mut text = goals(judgement);
    text.push('\n');
    text.push_str(&variants(summary));
    for void in &summary.voids {
        let reason = void.void.as_deref().unwrap_or_default();
        let _ = write!(text, "\nvoid: {}, {}, repeat {}: {reason}", void.case, void.variant, void.repeat);
    }
    if !summary.voids.is_empty() {
        text.push('\n');
    }
    text
}

/// How a verdict is marked, here and in the report.
pub(crate) fn mark(goal: &Goal) -> &'static str {
    match goal.met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "not measured",
    }
}

/// `9 met, 1 not met, 3 not measured`.
pub(crate) fn summary_line(judgement: &Judgement) -> String {
    let of = |met| judgement.goals.iter().filter(|goal| goal.met == met).count();
    format!("{} met, {} not met, {} not measured", of(Some(true)), of(Some(false)), of(None))
}

fn goals(judgement: &Judgement) -> String {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["", "goal", "measured", "target", ""])];
    for goal in &judgement.goals {
        rows.push(row([mark(goal), goal.name, &goal.measured, &goal.target, &goal.note]));
    }
    for control in &judgement.controls {
        rows.push(row(["noise", control.name, &control.measured, "", &control.note]));
    }
    format!("{}{}\n", aligned(&rows, &[2]), summary_line(judgement))
}

fn variants(summary: &Summary) -> String {
    let header = ["", "rows/s", "p50", "p99", "CPU s per 100,000 rows/peak MiB"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for case in summary.cases() {
        rows.push(vec![case.to_owned()]);
        rows.extend(summary.of_case(case).map(variant));
    }
    aligned(&rows, &[1, 2, 3])
}

fn variant(group: &Group) -> Vec<String> {
    let process = |(name, process): (&&str, &Process)| {
        let (cpu, peak) = (number::seconds(process.cpu_per_100k), number::mib(Some(process.peak_mib)));
        format!("{name} {cpu}/{peak}")
    };
    vec![
        format!("  {}", group.variant),
        number::rate(group.rate),
        number::millis(group.p50),
        number::millis(group.p99),
        group.processes.iter().map(process).collect::<Vec<_>>().join(", "),
    ]
}

/// Columns two blanks apart, those named to the right. A row of one cell is a heading and takes no column's width.
fn aligned(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > 1).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cell = |(column, cell): (usize, &String)| {
            let width = widths[column];
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_are_aligned_and_headings_are_not() {
        let rows = [vec!["a", "bb", "1"], vec!["a long heading"], vec!["aaa", "b", "10"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(aligned(&rows, &[2]), "a    bb   1\na long heading\naaa  b   10\n");
    }
}
