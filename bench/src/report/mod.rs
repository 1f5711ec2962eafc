//! From a run to what a person reads: a table on the terminal, a report in Markdown and a chart.

mod changes;
mod chart;
#[cfg(test)]
mod example;
mod goals;
mod hand_over;
mod hand_over_goals;
mod markdown;
mod number;
mod operators;
mod reads;
mod reads_goals;
mod summary;
mod text;

use std::path::Path;

use anyhow::Context as _;

use crate::results::Run;
use goals::Judgement;
use summary::Summary;

/// A run, summed up and judged once, so that every form of the report says the same.
pub(crate) struct Report<'a> {
    run: &'a Run,
    summary: Summary<'a>,
    judgement: Judgement,
}

impl<'a> Report<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        let summary = Summary::of(run);
        let judgement = Judgement::of(&summary);
        Self { run, summary, judgement }
    }

    /// The tables for the terminal.
    pub(crate) fn text(&self) -> String {
        text::text(&self.summary, &self.judgement)
    }

    /// `report.md`. `lacks` are peers by name, each with a sentence about what it does not do.
    pub(crate) fn markdown(&self, lacks: &[(&str, &str)]) -> String {
        markdown::markdown(self.run, &self.summary, &self.judgement, lacks)
    }

    /// `chart.svg`, which `report.md` shows.
    pub(crate) fn chart(&self) -> String {
        chart::chart(&self.summary, &self.judgement)
    }

    /// Writes `report.md` and `chart.svg` into the folder, which is made if it is not there, and `capture.md`, `reads.md`, `handover.md` and `operators.md` of the
    /// cases that are there; of a run of nothing else those alone.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(crate) fn write(&self, folder: &Path, lacks: &[(&str, &str)]) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut files = Vec::new();
        if self.run.samples.is_empty() || self.run.samples.iter().any(|sample| !has_page(&sample.case)) {
            files.extend([("report.md", self.markdown(lacks)), ("chart.svg", self.chart())]);
        }
        files.extend(changes::markdown(self.run, &self.summary).map(|page| ("capture.md", page)));
        let page = reads::markdown(self.run, &self.summary, &self.judgement);
        files.extend(page.map(|page| ("reads.md", page)));
        let page = hand_over::markdown(self.run, &self.summary, &self.judgement);
        files.extend(page.map(|page| ("handover.md", page)));
        let page = operators::markdown(self.run, &self.summary, &self.judgement);
        files.extend(page.map(|page| ("operators.md", page)));
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Whether a case has a page of its own.
fn has_page(case: &str) -> bool {
    changes::is_of(case) || reads::is_of(case) || hand_over::is_of(case) || operators::is_of(case)
}

#[cfg(test)]
mod tests {
    use super::{Report, example};

    /// What a peer lacks, as in the snapshots.
    const LACKS: [(&str, &str); 1] = [("slow_queue 1.2.3", "Does not know the order of commits.")];

    /// Compares with a file, or writes it where `UPDATE_SNAPSHOTS` is set: then look at what changed.
    fn assert_snapshot(name: &str, text: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/snapshots").join(name);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, text).expect("a file of this crate");
        }
        assert_eq!(text, std::fs::read_to_string(path).expect("a file of this crate"));
    }

    #[test]
    fn the_terminal_shows_the_snapshot() {
        assert_snapshot("report.txt", &Report::of(&example::run()).text());
    }

    #[test]
    fn the_report_is_the_snapshot() {
        assert_snapshot("report.md", &Report::of(&example::run()).markdown(&LACKS));
    }

    #[test]
    fn the_chart_is_the_snapshot() {
        assert_snapshot("chart.svg", &Report::of(&example::run()).chart());
    }

    #[test]
    fn a_run_without_samples_has_a_report() {
        let mut run = example::run();
        run.samples.clear();
        let report = Report::of(&run);
        for text in [report.text(), report.markdown(&[]), report.chart()] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        assert!(report.text().contains("not measured"));
    }

    #[test]
    fn the_files_are_written() {
        let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        Report::of(&example::run()).write(&folder.join("new"), &LACKS).expect("a folder of our own");
        let chart = std::fs::read_to_string(folder.join("new/chart.svg")).expect("it was written");
        std::fs::remove_dir_all(&folder).expect("a folder of our own");
        assert_eq!(chart, Report::of(&example::run()).chart());
    }
}
