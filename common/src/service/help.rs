//! Help that lists subcommands in groups, which clap does for options only.

use std::fmt::Write as _;

use clap::Command;

/// Subcommands under a heading, in the order in which help lists them.
pub type Group = (&'static str, &'static [&'static str]);

/// The command with help that lists its subcommands in these groups; those that it does not have are left out.
#[must_use]
pub fn grouped(command: Command, groups: &[Group]) -> Command {
    if groups.is_empty() {
        return command;
    }
    let styles = command.get_styles();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let width = command.get_subcommands().map(|known| known.get_name().len()).max().unwrap_or_default();
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n\n");
    for (heading, names) in groups {
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for known in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let (name, summary) = (known.get_name(), known.get_about().map(ToString::to_string));
            let _ = writeln!(text, "  {literal}{name:width$}{literal:#}  {}", summary.unwrap_or_default());
        }
        text.push('\n');
    }
    let _ = write!(text, "{header}Options:{header:#}\n{{options}}{{after-help}}");
    command.help_template(text)
}

/// For the test of a command line: the groups have each subcommand once, and no line is too long for a terminal of 100 columns.
///
/// # Panics
/// When that is not so.
pub fn assert_grouped(command: &Command, groups: &[Group]) {
    let mut listed: Vec<&str> = groups.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let mut known: Vec<&str> =
        command.get_subcommands().filter(|known| !known.is_hide_set()).map(Command::get_name).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
    let help = grouped(command.clone(), groups).render_help().to_string();
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}
