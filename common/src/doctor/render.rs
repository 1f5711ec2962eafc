//! A report for people and for programs.

use std::fmt::Write as _;

use super::{
    Check, Finding, Report, Severity,
    checks::{self, Part},
};

/// What was found, and which checks were made.
pub(super) fn json(report: &Report) -> String {
    let answer =
        serde_json::json!({ "findings": report.findings, "checked": report.made.keys().collect::<Vec<_>>() });
    format!("{answer:#}\n")
}

/// A line for each check that was made, by its subject, and one for the sum.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut part: Option<Part> = None;
    // A host's own stand behind ours of the same part.
    let mut made: Vec<&Check> =
        checks::ALL.iter().copied().filter(|check| report.made.contains_key(check.name)).collect();
    made.extend(report.made.values().copied().filter(|check| !checks::ALL.contains(check)));
    made.sort_by_key(|check| check.part);
    for check in made {
        if part.replace(check.part) != Some(check.part) {
            let _ = writeln!(text, "{}", check.part);
        }
        let mut expectation = true;
        for Finding { severity, what, remedy, .. } in
            report.findings.iter().filter(|finding| finding.name == check.name)
        {
            expectation = false;
            let _ = writeln!(text, "  {severity:<7}  {}: {what}\n           remedy: {remedy}", check.name);
        }
        if expectation {
            let _ = writeln!(text, "  ok       {}: {}", check.name, check.expectation);
        }
    }
    let [errors, warnings, hints] =
        [Severity::Error, Severity::Warning, Severity::Hint].map(|severity| report.count(severity));
    let _ = writeln!(text, "{errors} error(s), {warnings} warning(s), {hints} hint(s)");
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Problem, RunMode},
        *,
    };

    const FOLDER_WRITABLE: &Check =
        &Check::of_target("folder-writable", Severity::Error, "The folder can be written to.");

    fn report() -> Report {
        let mut report = Report::new(RunMode::Command);
        report.record(checks::SOURCE_STANDBY, [Problem::new("the server is a\nstandby", "use the primary")]);
        report.record(checks::LOG_RETENTION_SHORT, None);
        report.record(checks::LOG_RETENTION_SHORT, None);
        report.record_result(checks::CLOCK_OFFSET, Err::<Option<Problem>, _>("no answer".to_owned()));
        report.record(FOLDER_WRITABLE, None);
        report
    }

    #[test]
    fn each_check_that_was_made_has_its_line_below_what_it_looks_at() {
        let lines = [
            "settings",
            "  ok       log-retention-short: Entries stay in the log until the broker has written to its disk what it acknowledged.",
            "source",
            "  error    source-standby: the server is a standby",
            "           remedy: use the primary",
            "targets",
            "  ok       folder-writable: The folder can be written to.",
            "checks",
            "  warning  check-failed: the check clock-offset could not be made: no answer",
            "           remedy: fix what the server says, and run this again",
            "1 error(s), 1 warning(s), 0 hint(s)",
        ];
        assert_eq!(text(&report()), lines.join("\n") + "\n");
    }

    #[test]
    fn programs_get_findings_and_the_names_of_the_checks() {
        let answer: serde_json::Value = serde_json::from_str(&json(&report())).expect("JSON");
        assert_eq!(
            answer["checked"],
            serde_json::json!(["check-failed", "folder-writable", "log-retention-short", "source-standby"])
        );
        assert_eq!(
            answer["findings"][0],
            serde_json::json!({"name": "source-standby", "severity": "error", "what": "the server is a standby",
                               "remedy": "use the primary"})
        );
    }

    #[test]
    fn a_refusal_names_every_error_with_its_remedy_and_nothing_else() {
        let refused = report().log_and_fail_on_errors().expect_err("an error").to_string();
        assert!(
            refused.contains("source-standby: the server is a standby\n    remedy: use the primary"),
            "{refused}"
        );
        assert!(!refused.contains("check-failed"), "{refused}");
        assert_eq!(Report::new(RunMode::Boot).log_and_fail_on_errors(), Ok(()));
    }
}
