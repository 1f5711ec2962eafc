//! The list of commands in the help, by what they are for. The parser knows no groups of commands.

use std::fmt::Write as _;

use clap::Command;

/// Every command is in one of them; those that people ask most often for come first.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Read the timeline",
        &[
            "timeline",
            "actions",
            "tail",
            "history",
            "as-of",
            "blame",
            "actor",
            "correlation",
            "transaction",
            "incident",
            "undo-plan",
            "serve",
        ],
    ),
    ("Install and capture", &["install", "gen-triggers", "continuity", "capture", "backfill-keys"]),
    ("Check", &["doctor", "metrics", "verify-coverage", "health", "policy"]),
    ("Hand over", &["export", "receipts", "retention", "erase", "evidence"]),
    ("About this command", &["completions", "man", "help"]),
];

/// The command whose help lists its commands by groups.
pub(super) fn grouped(command: Command) -> Command {
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut list = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(list, "{header}{title}:{header:#}");
        for name in names {
            let about = match command.find_subcommand(name).and_then(Command::get_about) {
                Some(about) => about.to_string(),
                // The parser adds this one later.
                None => "Says more about a command".to_owned(),
            };
            let _ = writeln!(list, "  {literal}{name:<15}{literal:#}  {}", about.trim_end_matches('.'));
        }
        list.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{header}Options:{header:#}\n{{options}}\n{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = crate::cli::Cli::command();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut there: Vec<&str> = command.get_subcommands().map(Command::get_name).chain(["help"]).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);
    }
}
