//! Checks of the source database.

use std::time::Duration;

use time::OffsetDateTime;

pub use super::judge::unreachable;
use super::{
    Report, Side, Trouble,
    checks::{
        AUTOVACUUM_OFF, CAPTURE_OFF, CLOCK_OFFSET, GRANT_MISSING, ID_INDEX_MISSING,
        INSERTED_AT_INDEX_MISSING, OUTBOX_INCOMPLETE, OUTBOX_MISSING, OUTBOX_NEWER, OUTBOX_OTHER_TABLE,
        READER_STALLED, READER_UNUSED, REBASE_NEEDED, ROWS_HIDDEN, SAFE_BEFORE_BLIND, SOURCE_ENCODING,
        SOURCE_READ_ONLY, SOURCE_STANDBY, SOURCE_UNFIT, SOURCE_UNREACHABLE, TRANSACTION_OLD,
        TRANSACTION_PREPARED, TRANSACTIONS_HIDDEN,
    },
    columns::{self, Wanted},
    facts, judge,
};
use crate::{
    broker::SourceIdentity,
    database::Database,
    outbox::{self, OutboxError, backlog, capture, handover, rounds, system_identifier},
    session::Session,
    settings::Settings,
};

/// What says where it is.
const KEYS: &str = "source.url or SOURCE_DATABASE_URL";

/// A transaction that takes longer has been forgotten.
const TRANSACTION_MAX: Duration = Duration::from_secs(3_600);

/// A reader that has not moved for longer has nobody who reads.
const STANDSTILL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Connects and makes all checks of the source and of what forwarders want of it, for a doctor's command. Answers whose stream ours would be, if that can be
/// known.
pub async fn visit(
    report: &mut Report,
    settings: &Settings,
    side: Side,
    application_name: &str,
    wanted: &[Wanted<'_>],
) -> Option<SourceIdentity> {
    let connected = async {
        let database = Database::source(&settings.source, application_name)?;
        let connection = database.connect().await?;
        Ok::<_, sqlx::Error>((database, connection))
    };
    let (database, mut connection) = match connected.await {
        Ok(connected) => connected,
        Err(error) => {
            report.enter(SOURCE_UNREACHABLE, [unreachable("the source database", KEYS, &error)]);
            return None;
        }
    };
    report.enter(SOURCE_UNREACHABLE, None);
    examine(report, settings, side, &database, &mut connection).await;
    columns::examine(report, &settings.source.table, wanted, &database, &mut connection).await;
    let identity = SourceIdentity::read(&mut connection, &settings.source.table);
    let identity = database.within(identity).await.ok()?;
    Some(identity.named(settings.source.name.as_deref()))
}

/// Makes the checks on a connection. Each statement is waited for within the database's limit.
pub async fn examine(
    report: &mut Report,
    settings: &Settings,
    side: Side,
    database: &Database,
    connection: &mut Session,
) {
    server(report, database, connection).await;
    if grants(report, settings, side, database, connection).await
        && outbox(report, settings, database, connection).await
    {
        readers(report, settings, database, connection).await;
        if !report.is_at_boot() {
            let state = database.within(capture::state(connection)).await;
            report.look(CAPTURE_OFF, state.map(|state| judge::capture(&state)));
        }
        let warnings = database.within(capture::warnings(connection, &settings.source.table)).await;
        report.look(SOURCE_UNFIT, warnings.map(|found| judge::source(&settings.source.table, found)));
    }
    tables(report, settings, side, database, connection).await;
    let running = database.within(facts::transactions(connection, TRANSACTION_MAX)).await;
    report.look(TRANSACTION_OLD, running.map(judge::transactions));
    let prepared = database.within(facts::prepared(connection, TRANSACTION_MAX)).await;
    report.look(TRANSACTION_PREPARED, prepared.map(judge::prepared));
    let table = &settings.source.table;
    let owner = database.within(facts::bound_owner(connection, table)).await;
    report.look(SAFE_BEFORE_BLIND, owner.map(|owner| judge::bound_owner(table, owner)));
    if !report.is_at_boot() {
        let blind = database.within(facts::blind_role(connection)).await;
        report.look(TRANSACTIONS_HIDDEN, blind.map(judge::blind));
    }
}

/// The server.
async fn server(report: &mut Report, database: &Database, connection: &mut Session) {
    let before = OffsetDateTime::now_utc();
    let server = database.within(facts::server(connection)).await;
    let after = OffsetDateTime::now_utc();
    if let Err(error @ sqlx::Error::Configuration(_)) = &server {
        // Let in, and the first statement is refused: by a pooler that the settings do not know of.
        report.enter(SOURCE_UNREACHABLE, [unreachable("the source database", KEYS, error)]);
    }
    report.look(SOURCE_STANDBY, server.as_ref().map(|(standby, ..)| judge::standby(*standby)));
    if let Ok((is_standby, now, encoding, is_read_only)) = server {
        report.enter(SOURCE_ENCODING, judge::encoding(&encoding));
        report.enter(SOURCE_READ_ONLY, judge::read_only(is_read_only && !is_standby));
        report.enter(CLOCK_OFFSET, judge::clock(before, now, after));
    }
    let autovacuum = database.within(facts::autovacuum(connection)).await;
    report.look(AUTOVACUUM_OFF, autovacuum.map(|(works, tables)| judge::autovacuum(works, &tables)));
}

/// What our role may do. Answers whether the outbox can be looked at.
async fn grants(
    report: &mut Report,
    settings: &Settings,
    side: Side,
    database: &Database,
    connection: &mut Session,
) -> bool {
    let table = &settings.source.table;
    let mut needs: Vec<(&str, &str, &str)> = judge::needs(side, settings.source.retention.is_some());
    if side == Side::Consumer {
        needs.push((table.schema(), table.table(), "select"));
    }
    let missing = database.within(facts::missing_grants(connection, &needs)).await;
    let readable = missing.as_ref().is_ok_and(|missing| !missing.iter().any(judge::hides_the_outbox));
    report.look(GRANT_MISSING, missing.map(judge::grants));
    readable
}

/// Whether the outbox is there, of this version and of our table.
async fn outbox(
    report: &mut Report,
    settings: &Settings,
    database: &Database,
    connection: &mut Session,
) -> bool {
    let required = async { Ok::<_, sqlx::Error>(outbox::require(connection, &settings.source.table).await) };
    let required = database.within(required).await.unwrap_or_else(|error| Err(error.into()));
    match &required {
        Ok(()) => {
            report.enter(OUTBOX_MISSING, None);
            report.enter(OUTBOX_NEWER, None);
            report.enter(OUTBOX_INCOMPLETE, None);
            report.enter(OUTBOX_OTHER_TABLE, None);
        }
        Err(OutboxError::Unreachable(error) | OutboxError::Database(error)) => {
            report.look(OUTBOX_MISSING, Err::<Option<Trouble>, _>(error));
        }
        Err(error @ OutboxError::Missing) => report.enter(OUTBOX_MISSING, [judge::outbox(error)]),
        Err(error @ OutboxError::Incomplete(_)) => report.enter(OUTBOX_INCOMPLETE, [judge::outbox(error)]),
        Err(error @ OutboxError::Newer { .. }) => report.enter(OUTBOX_NEWER, [judge::outbox(error)]),
        Err(
            error @ (OutboxError::OtherTable { .. }
            | OutboxError::ReplacedTable { .. }
            | OutboxError::GoneTable { .. }),
        ) => {
            report.enter(OUTBOX_OTHER_TABLE, [judge::outbox(error)]);
        }
    }
    required.is_ok()
}

/// Those who read the log.
async fn readers(report: &mut Report, settings: &Settings, database: &Database, connection: &mut Session) {
    let heads = async {
        Ok::<_, sqlx::Error>((system_identifier(connection).await?, rounds::heads(connection).await?))
    };
    match database.within(heads).await {
        Ok((identifier, heads)) => {
            report.enter(REBASE_NEEDED, judge::foreign_positions(&heads, identifier));
            report.enter(READER_UNUSED, judge::unused_readers(&heads, &handover::readers(settings)));
        }
        Err(error) => report.look(REBASE_NEEDED, Err::<Option<Trouble>, _>(error)),
    }
    let stalled = database.within(backlog::stalled(connection, STANDSTILL_MAX)).await;
    report.look(READER_STALLED, stalled.map(judge::stalled_readers));
}

/// The application's table.
async fn tables(
    report: &mut Report,
    settings: &Settings,
    side: Side,
    database: &Database,
    connection: &mut Session,
) {
    let table = &settings.source.table;
    if side == Side::Publisher && report.is_at_boot() {
        // It does not read the table.
        return;
    }
    let indexes = database.within(facts::indexes(connection, table)).await;
    if side == Side::Consumer {
        let found = indexes.as_ref();
        report.look(ID_INDEX_MISSING, found.map(|found| judge::id_index(table, found.as_ref())));
    }
    if report.is_at_boot() {
        return;
    }
    report.look(
        INSERTED_AT_INDEX_MISSING,
        indexes.map(|found| judge::inserted_at_index(table, found.as_ref())),
    );
    if side == Side::Consumer {
        let security = database.within(facts::row_security(connection, table)).await;
        report.look(ROWS_HIDDEN, security.map(|security| judge::hidden_rows(table, security)));
    }
}
