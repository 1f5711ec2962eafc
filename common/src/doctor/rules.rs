//! What facts about the source mean.

use std::time::Duration;

use humantime::format_duration;
use time::OffsetDateTime;

use super::{
    Problem,
    probes::{Indexes, Prepared, Running, SafeBeforeOwner},
};
use crate::{
    identifier::TableName,
    outbox::{
        OutboxError,
        capture::{Capture, NO_TABLE_REMEDY, catalog::Difference},
        reader::rounds::{Round, STREAM_READER},
    },
    pooler::PoolerRefusal,
};

/// Nothing is decided by this machine's clock: leases and waits are measured by the database's. What suffers beyond this are
/// times in logs, lags in metrics, `--since`, and receivers of a webhook that check the time of its signature.
const CLOCK_OFFSET_MAX: time::Duration = time::Duration::seconds(2);

/// A server that cannot be written to.
pub(super) fn standby(is_standby: bool) -> Option<Problem> {
    is_standby.then(|| {
        Problem::new(
            "source.url leads to a standby, where nothing can be written",
            "let source.url lead to the primary, or promote this server",
        )
    })
}

/// Sessions that cannot write, on a server that could.
pub(super) fn read_only(is_read_only: bool) -> Option<Problem> {
    is_read_only.then(|| {
        Problem::new(
            "transactions at the source are read-only: no position can be stored",
            "take default_transaction_read_only from the role, the database or the server",
        )
    })
}

/// A database that does not know what its bytes mean.
pub(super) fn encoding(name: &str) -> Option<Problem> {
    (name == "SQL_ASCII").then(|| {
        Problem::new(
            "the source database stores text as SQL_ASCII, which checks nothing: a row with bytes that are no UTF-8 cannot be \
             read, and ends as a dead letter",
            "move it into a database that was created with encoding 'UTF8'",
        )
    })
}

/// The server's time, read between two readings of our own clock.
pub(super) fn clock(
    before: OffsetDateTime,
    server: OffsetDateTime,
    after: OffsetDateTime,
) -> Option<Problem> {
    let half: time::Duration = (after - before) / 2;
    let offset: time::Duration = server - (before + half);
    (offset.abs() - half.abs() > CLOCK_OFFSET_MAX).then(|| {
        let service = if offset.is_negative() { "ahead of" } else { "behind" };
        Problem::new(
            format!(
                "the clock of this machine is {:.1} s {service} the source's",
                offset.abs().as_seconds_f64()
            ),
            "synchronise both clocks (NTP)",
        )
    })
}

/// What `outbox::require` says, except servers that are away.
pub(super) fn outbox(error: &OutboxError) -> Problem {
    let remedy = match error {
        OutboxError::OtherTable { attached, .. } => {
            format!("set source.table = \"{attached}\"; if it was renamed, run `publisher rebase` too")
        }
        OutboxError::HiddenTable { attached, .. } => {
            format!(
                "set source.table = \"{attached}\", run `publisher attach` and `publisher rebase`, and restart"
            )
        }
        OutboxError::ReplacedTable { .. } => "run `publisher attach` and `publisher backfill`".to_owned(),
        OutboxError::Newer { .. } => "use a binary of that version".to_owned(),
        _ => "run `publisher attach`".to_owned(),
    };
    Problem::new(errors::line(error), remedy)
}

/// An outbox that was altered by hand.
pub(super) fn altered(lost: bool, differences: Vec<Difference>) -> Vec<Problem> {
    let lost = lost.then(|| {
        Problem::new(
            "outbox.migrations was dropped: the version of the schema is unknown",
            "run `publisher attach`, which recreates it",
        )
    });
    let different = differences.into_iter().map(|Difference { what, remedy, .. }| Problem::new(what, remedy));
    lost.into_iter().chain(different).collect()
}

/// A trigger that is not there.
pub(super) fn capture(state: &Capture) -> Vec<Problem> {
    state.faults().into_iter().map(|(what, remedy)| Problem::new(what, remedy)).collect()
}

/// A table that does not promise what others do.
pub(super) fn source(table: &TableName, found: Vec<(String, String)>) -> Vec<Problem> {
    found.into_iter().map(|(what, remedy)| Problem::new(format!("{table}: {what}"), remedy)).collect()
}

/// A policy in our way.
pub(super) fn hidden_rows(table: &TableName, security: Option<(bool, String)>) -> Option<Problem> {
    let (_, role) = security.filter(|(active, _)| *active)?;
    Some(Problem::new(
        format!("row-level security of {table} applies to the role {role}, so that no row can be delivered"),
        format!("run: alter role {role} bypassrls"),
    ))
}

/// Positions of another cluster.
pub(super) fn foreign_positions(heads: &[Round], identifier: i64) -> Vec<Problem> {
    let foreign = |head: &&Round| head.system_identifier != identifier;
    let problem = |head: &Round| {
        Problem::new(
            format!(
                "the position of reader {} belongs to the cluster with system identifier {}, but this database is in \
                 cluster {identifier}: transaction ids mean nothing here",
                head.reader, head.system_identifier
            ),
            "if this database was restored and is to take over, stop all processes of the pipeline and run `publisher \
             rebase`; after pg_upgrade, `publisher rebase --upgraded`",
        )
    };
    heads.iter().filter(foreign).map(problem).collect()
}

/// Readers that nothing in the settings reads as.
pub(super) fn unused_readers(heads: &[Round], used: &[String]) -> Vec<Problem> {
    let problem = |head: &Round| {
        let belongs = match head.reader.as_str() {
            STREAM_READER => "to a publisher, and no broker is configured",
            _ => "to a forwarder that is not configured",
        };
        Problem::new(
            format!(
                "the reader {} belongs {belongs}: it holds back the pruning of the log and outbox.safe_before() permanently",
                head.reader
            ),
            format!(
                "if nothing reads as it any more, run `publisher drop-reader {} --reason …`",
                head.reader
            ),
        )
    };
    heads.iter().filter(|head| !used.contains(&head.reader)).map(problem).collect()
}

/// Readers that stand still, each with the age of its position, and have something to read.
pub(super) fn stalled_readers(stalled: Vec<(String, f64)>) -> Vec<Problem> {
    let problem = |(reader, seconds): (String, f64)| {
        let runs = if reader == STREAM_READER { "publisher run" } else { "consumer run" };
        Problem::new(
            format!("the reader {reader} has not moved for {} although entries wait for it", age(seconds)),
            format!(
                "see that `{runs}` runs and what its log says; if nothing is to read as it any more, `publisher \
                     drop-reader {reader} --reason …`"
            ),
        )
    };
    stalled.into_iter().map(problem).collect()
}

/// Transactions that run for too long.
pub(super) fn transactions(running: Vec<Running>) -> Vec<Problem> {
    let problem = |Running { pid, seconds, state, application_name }: Running| {
        Problem::new(
            format!(
                "the transaction of process {pid} ({:?}, {}) has run for {}: its rows are delivered after its end, \
                 outbox.safe_before() does not advance beyond its beginning, and vacuum removes nothing behind it",
                application_name.unwrap_or_default(),
                state.unwrap_or_default(),
                age(seconds)
            ),
            format!("end it, or run: select pg_terminate_backend({pid})"),
        )
    };
    running.into_iter().map(problem).collect()
}

/// Transactions that were prepared and forgotten.
pub(super) fn prepared(prepared: Vec<Prepared>) -> Vec<Problem> {
    let problem = |Prepared { gid: name, seconds, owner }: Prepared| {
        let quoted = name.replace('\'', "''");
        Problem::new(
            format!(
                "the transaction {name:?} of {owner} was prepared {} ago: its rows are delivered after its end, \
                 outbox.safe_before() does not advance beyond a day before it, and vacuum removes nothing behind it",
                age(seconds)
            ),
            format!("run: commit prepared '{quoted}', or rollback prepared '{quoted}'"),
        )
    };
    prepared.into_iter().map(problem).collect()
}

/// A role that cannot see how old transactions are.
pub(super) fn transactions_hidden(role: Option<String>) -> Option<Problem> {
    role.map(|role| {
        Problem::new(
            format!("the role {role} cannot see when the transactions of other roles began"),
            format!("run: grant pg_read_all_stats to {role}"),
        )
    })
}

/// An owner of `outbox.safe_before()` that does not see all that it must.
pub(super) fn bound_owner(table: &TableName, owner: Option<SafeBeforeOwner>) -> Vec<Problem> {
    let Some(SafeBeforeOwner { role: owner, sees, is_member, is_under_policy }) = owner else {
        return Vec::new();
    };
    let fail = "clean-ups that ask it and `consumer reconcile --seal` fail";
    let unprivileged = (!sees).then(|| {
        let what = format!(
            "the role {owner}, which owns outbox.safe_before(), cannot see when the transactions of other roles began: {fail}"
        );
        // One that is a member and does not inherit.
        let inherit = if is_member { " with inherit true; before PostgreSQL 16: alter role … inherit" } else { "" };
        Problem::new(what, format!("run as a superuser: grant pg_read_all_stats to {owner}{inherit}"))
    });
    let hidden = is_under_policy.then(|| {
        let what = format!(
            "row-level security of {table} applies to the role {owner}, which owns outbox.safe_before(): {fail}"
        );
        Problem::new(what, format!("run as a superuser: alter role {owner} bypassrls"))
    });
    unprivileged.into_iter().chain(hidden).collect()
}

/// Autovacuum that is switched off, everywhere or for a table.
pub(super) fn autovacuum(works: bool, tables: &[String]) -> Vec<Problem> {
    let everywhere = (!works).then(|| {
        Problem::new(
            "autovacuum or track_counts is off: the outbox, whose rows come and go, grows without limit",
            "run: alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf()",
        )
    });
    let problem = |table: &String| {
        Problem::new(
            format!("autovacuum is off for outbox.{table}, whose rows come and go: it grows without limit"),
            format!("run: alter table outbox.{table} reset (autovacuum_enabled)"),
        )
    };
    everywhere.into_iter().chain(tables.iter().map(problem)).collect()
}

/// A table whose rows cannot be found by id.
pub(super) fn id_index(table: &TableName, indexes: Option<&Indexes>) -> Option<Problem> {
    index(table, indexes, "id", "every batch scans the whole table")
}

/// A table whose old rows cannot be found.
pub(super) fn inserted_at_index(table: &TableName, indexes: Option<&Indexes>) -> Option<Problem> {
    let indexes = indexes.filter(|indexes| indexes.has_inserted_at);
    index(table, indexes, "inserted_at", "a clean-up of old rows scans the whole table")
}

/// A table without an index that begins with `column`.
fn index(table: &TableName, indexes: Option<&Indexes>, column: &str, effect: &str) -> Option<Problem> {
    (!indexes?.leading.iter().any(|leading| leading == column)).then(|| {
        let what = format!("no index of {table} begins with {column}: {effect}");
        Problem::new(what, create_index(table, column))
    })
}

/// The table of the settings.
pub(super) fn missing_table(table: &TableName, found: bool) -> Option<Problem> {
    (!found).then(|| Problem::new(format!("there is no table {table}"), NO_TABLE_REMEDY))
}

fn create_index(table: &TableName, column: &str) -> String {
    let table = table.quoted();
    format!(
        "run: create index concurrently on {table} ({column}); a partitioned table wants it without concurrently"
    )
}

/// A database that does not let us in.
#[must_use]
pub fn unreachable(what: &str, keys: &str, error: &sqlx::Error) -> Problem {
    let refusal = match error {
        sqlx::Error::Configuration(cause) => cause.downcast_ref(),
        sqlx::Error::Io(cause) => cause.get_ref().and_then(|cause| cause.downcast_ref()),
        _ => None,
    };
    if let Some(PoolerRefusal { said, remedy }) = refusal {
        return Problem::new(format!("cannot connect to {what}: {said}"), *remedy);
    }
    Problem::new(
        format!("cannot connect to {what}: {}", errors::database(error)),
        format!(
            "set {keys} to where the server runs, start it, and see that it accepts connections of this role"
        ),
    )
}

fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    format_duration(Duration::from_secs(whole)).to_string()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_clock_is_off_only_by_what_the_way_there_does_not_explain() {
        let now = datetime!(2026-01-31 08:00 UTC);
        let seconds = time::Duration::seconds;
        assert_eq!(clock(now, now + seconds(2), now), None);
        assert_eq!(
            clock(now, now + seconds(6), now + seconds(8)),
            None,
            "the answer may have been under way"
        );
        let ahead = clock(now, now - seconds(90), now).expect("off");
        assert!(ahead.what.contains("90.0 s ahead of the source's"), "{ahead:?}");
        let behind = clock(now, now + seconds(90), now).expect("off");
        assert!(behind.what.contains("90.0 s behind the source's"), "{behind:?}");
    }

    #[test]
    fn forgotten_transactions_are_told_with_who_holds_them_and_how_to_end_them() {
        let running = Running {
            pid: 7,
            seconds: 3_700.4,
            state: Some("idle in transaction".into()),
            application_name: Some("psql".into()),
        };
        let found = transactions(vec![running]);
        assert!(
            found[0].what.contains("process 7 (\"psql\", idle in transaction) has run for 1h 1m 40s"),
            "{found:?}"
        );
        assert!(found[0].remedy.contains("pg_terminate_backend(7)"), "{found:?}");
        let found = prepared(vec![Prepared { gid: "it's".into(), seconds: 7_200.0, owner: "app".into() }]);
        assert!(found[0].what.contains("of app was prepared 2h ago"), "{found:?}");
        assert!(found[0].remedy.contains("rollback prepared 'it''s'"), "{found:?}");
    }
}
