//! Receipts and verifications for people.

use std::fmt::Write as _;

use indicatif::HumanCount;
use threadline::{
    query::time_text,
    receipts::{Counts, Receipt, Verification},
};

use crate::cli::read::safe;

/// A receipt, on a line.
pub(super) fn receipt(receipt: &Receipt) -> String {
    let Receipt { n, since, until, transactions, changes, actions, hash, key, .. } = receipt;
    let since = since.map_or_else(|| "the beginning".to_owned(), time_text);
    let count = |count: &i64| HumanCount(count.unsigned_abs()).to_string();
    let held = match (*transactions, *changes, *actions) {
        (0, 0, 0) => "nothing".to_owned(),
        _ => format!(
            "{} transactions, {} changes, {} actions",
            count(transactions),
            count(changes),
            count(actions)
        ),
    };
    let signed = key.as_ref().map_or_else(|| "not signed".to_owned(), |key| format!("signed with {key}"));
    safe(&format!("receipt {n}: {since} to {}: {held}; hash {hash}; {signed}", time_text(*until))) + "\n"
}

/// What a verification has found.
pub(super) fn verification(found: &Verification) -> String {
    let mut text = String::new();
    for fault in &found.faults.listed {
        let _ = writeln!(text, "FAULT: {}", safe(&fault.to_string()));
    }
    let more = found.faults.count() - found.faults.listed.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "and {} more faults", HumanCount(more));
    }
    let Some((first, last)) = found.numbers else {
        return text
            + if found.holds() {
                "there are no receipts: `threadline receipts seal` writes one\n"
            } else {
                "DOES NOT HOLD: there are no receipts\n"
            };
    };
    let database = found.database.as_deref().map(safe).unwrap_or_default();
    let _ = writeln!(
        text,
        "{}: receipts {first} to {last} of {database}; {} are what was sealed",
        if found.holds() { "holds" } else { "DOES NOT HOLD" },
        counts(&found.compared)
    );
    for (run, rows) in &found.purged {
        let _ = writeln!(
            text,
            "{} rows are gone and older than the cutoff of retention run {run}",
            HumanCount(*rows)
        );
    }
    if !found.purged.is_empty() && !found.purged_is_counted {
        text.push_str(
            "how many rows runs have deleted is not in a bundle: `threadline receipts verify` compares it\n",
        );
    }
    for (run, values) in &found.erased {
        let _ = writeln!(
            text,
            "{} values are known by their hashes alone: erased by run {run}",
            HumanCount(*values)
        );
    }
    if found.withheld > 0 {
        let _ = writeln!(text, "{} values are known by their hashes alone", HumanCount(found.withheld));
    }
    if found.is_elsewhere {
        text.push_str(
            "the last receipt is of another database: this one was restored or renamed, and what is in no receipt cannot be told from what \
             was slipped in until it is sealed\n",
        );
    }
    if found.pending.rows() > 0 {
        let _ =
            writeln!(text, "{} were committed since: the next receipt takes them", counts(&found.pending));
    }
    if !found.signatures_are_compared {
        text.push_str(
            "signatures were not compared with a key: without --public-key whoever may write receipts may have made these\n",
        );
    }
    if let (Some(end), true) = (&found.end, found.holds()) {
        let _ = writeln!(text, "the end is {}: keep it elsewhere, and give it to --kept later", safe(end));
    }
    text
}

fn counts(counts: &Counts) -> String {
    let Counts { transactions, changes, actions } = *counts;
    let [transactions, changes, actions] = [transactions, changes, actions].map(HumanCount);
    format!("{transactions} transactions, {changes} changes and {actions} actions")
}
