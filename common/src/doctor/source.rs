//! Checks of the source database.

use std::time::Duration;

use time::OffsetDateTime;

pub use super::rules::unreachable;
use super::{
    Problem, Report, Service,
    checks::{
        AUTOVACUUM_OFF, CAPTURE_OFF, CLOCK_OFFSET, GRANT_MISSING, ID_INDEX_MISSING,
        INSERTED_AT_INDEX_MISSING, OUTBOX_ALTERED, OUTBOX_INCOMPLETE, OUTBOX_MISSING, OUTBOX_NEWER,
        OUTBOX_OTHER_TABLE, READER_STALLED, READER_UNUSED, REBASE_NEEDED, ROWS_HIDDEN,
        SAFE_BEFORE_UNPRIVILEGED, SOURCE_ENCODING, SOURCE_READ_ONLY, SOURCE_STANDBY, SOURCE_TABLE_MISSING,
        SOURCE_UNFIT, SOURCE_UNREACHABLE, TRANSACTION_OLD, TRANSACTION_PREPARED, TRANSACTIONS_HIDDEN,
    },
    columns::{self, Wanted},
    grants,
    probes::{self, Server},
    rules,
};
use crate::{
    database::Database,
    outbox::{
        self, OutboxError, SourceIdentity,
        admin::backlog,
        capture::{self, catalog, objects},
        reader::{readers, rounds},
        system_identifier,
    },
    session::Session,
    settings::Settings,
};

/// What says where it is.
const KEYS: &str = "source.url or SOURCE_DATABASE_URL";

/// A transaction that takes longer has been forgotten.
const TRANSACTION_MAX: Duration = Duration::from_secs(3_600);

/// A reader that has not moved for longer is not in use.
const STANDSTILL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Connects and makes all checks of the source and of what forwarders want of it, for a doctor's command. Returns whose stream ours would be, if that can be
/// known.
pub async fn connect_and_check(
    report: &mut Report,
    settings: &Settings,
    service: Service,
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
            report.record(SOURCE_UNREACHABLE, [unreachable("the source database", KEYS, &error)]);
            return None;
        }
    };
    report.record(SOURCE_UNREACHABLE, None);
    let Ok(has_table) = check(report, settings, service, &database, &mut connection).await else {
        return None;
    };
    if has_table {
        columns::check(report, &settings.source.table, wanted, &database, &mut connection).await;
    }
    let identity = SourceIdentity::read(&mut connection, &settings.source.table);
    let identity = database.with_timeout(identity).await.ok()?;
    Some(identity.named(settings.source.name.as_deref()))
}

/// Makes the checks on a connection. Each statement is waited for within the database's limit. Returns whether the table is there;
/// where it is not, nothing is said of what it has.
///
/// # Errors
/// When the server does not serve the connection at all, which is then of no more use: the other checks would only say that
/// it is broken, each after its limit.
pub async fn check(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    database: &Database,
    connection: &mut Session,
) -> Result<bool, sqlx::Error> {
    server(report, database, connection).await?;
    let table = &settings.source.table;
    let has_table = if report.is_at_boot() {
        true
    } else {
        let found = database.with_timeout(capture::table_exists(connection, table)).await;
        let has_table = *found.as_ref().unwrap_or(&true);
        report.record_result(SOURCE_TABLE_MISSING, found.map(|found| rules::missing_table(table, found)));
        has_table
    };
    if privileges(report, settings, service, database, connection).await
        && outbox(report, settings, database, connection).await
    {
        readers(report, settings, database, connection).await;
        if !report.is_at_boot() {
            let state = database.with_timeout(capture::state(connection)).await;
            report.record_result(CAPTURE_OFF, state.map(|state| rules::capture(&state)));
            let owner = database.with_timeout(probes::partition_owner(connection)).await;
            report.record_result(GRANT_MISSING, owner.map(grants::partition_owner));
            let altered = async {
                let lost = objects::has_lost_its_migrations(connection).await?;
                Ok((lost, catalog::differences(connection).await?))
            };
            let altered = database.with_timeout(altered).await;
            report.record_result(
                OUTBOX_ALTERED,
                altered.map(|(lost, differences)| rules::altered(lost, differences)),
            );
        }
        if has_table {
            let warnings = database.with_timeout(capture::warnings(connection, table)).await;
            report.record_result(SOURCE_UNFIT, warnings.map(|found| rules::source(table, found)));
        }
    }
    if has_table {
        tables(report, settings, service, database, connection).await;
    }
    let running = database.with_timeout(probes::transactions(connection, TRANSACTION_MAX)).await;
    report.record_result(TRANSACTION_OLD, running.map(rules::transactions));
    let prepared = database.with_timeout(probes::prepared(connection, TRANSACTION_MAX)).await;
    report.record_result(TRANSACTION_PREPARED, prepared.map(rules::prepared));
    let owner = database.with_timeout(probes::bound_owner(connection, table)).await;
    report.record_result(SAFE_BEFORE_UNPRIVILEGED, owner.map(|owner| rules::bound_owner(table, owner)));
    if !report.is_at_boot() {
        let role = database.with_timeout(probes::role_without_stats(connection)).await;
        report.record_result(TRANSACTIONS_HIDDEN, role.map(rules::transactions_hidden));
    }
    Ok(has_table)
}

/// The server.
///
/// # Errors
/// When it does not serve the connection.
async fn server(
    report: &mut Report,
    database: &Database,
    connection: &mut Session,
) -> Result<(), sqlx::Error> {
    let before = OffsetDateTime::now_utc();
    let server = database.with_timeout(probes::server(connection)).await;
    let after = OffsetDateTime::now_utc();
    if let Err(error) = &server
        && (!report.is_at_boot() || matches!(error, sqlx::Error::Configuration(_)))
    {
        // Let in, and the first statement is refused: by a pooler that the settings do not know of, or whose pool is taken.
        report.record(SOURCE_UNREACHABLE, [unreachable("the source database", KEYS, error)]);
    }
    let server = match server {
        Err(error @ (sqlx::Error::Configuration(_) | sqlx::Error::Io(_))) => return Err(error),
        server => server,
    };
    report.record_result(SOURCE_STANDBY, server.as_ref().map(|server| rules::standby(server.is_standby)));
    if let Ok(Server { is_standby, now, encoding, is_read_only }) = server {
        report.record(SOURCE_ENCODING, rules::encoding(&encoding));
        report.record(SOURCE_READ_ONLY, rules::read_only(is_read_only && !is_standby));
        report.record(CLOCK_OFFSET, rules::clock(before, now, after));
    }
    let autovacuum = database.with_timeout(probes::autovacuum(connection)).await;
    report.record_result(AUTOVACUUM_OFF, autovacuum.map(|(works, tables)| rules::autovacuum(works, &tables)));
    Ok(())
}

/// What our role may do. Returns whether the outbox can be read.
async fn privileges(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    database: &Database,
    connection: &mut Session,
) -> bool {
    let table = &settings.source.table;
    let mut needs: Vec<(&str, &str, &str)> = grants::needs(service, settings.source.retention.is_some());
    if service == Service::Consumer {
        needs.push((table.schema(), table.table(), "select"));
    }
    let missing = database.with_timeout(probes::missing_grants(connection, &needs)).await;
    let readable = missing.as_ref().is_ok_and(|missing| !missing.iter().any(grants::hides_the_outbox));
    report.record_result(GRANT_MISSING, missing.map(grants::missing));
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
    let required = database.with_timeout(required).await.unwrap_or_else(|error| Err(error.into()));
    match &required {
        Ok(()) => {
            report.record(OUTBOX_MISSING, None);
            report.record(OUTBOX_NEWER, None);
            report.record(OUTBOX_INCOMPLETE, None);
            report.record(OUTBOX_OTHER_TABLE, None);
        }
        Err(OutboxError::Unreachable(error) | OutboxError::Database(error)) => {
            report.record_result(OUTBOX_MISSING, Err::<Option<Problem>, _>(error));
        }
        Err(error @ OutboxError::Missing) => report.record(OUTBOX_MISSING, [rules::outbox(error)]),
        Err(error @ OutboxError::Incomplete(_)) => report.record(OUTBOX_INCOMPLETE, [rules::outbox(error)]),
        Err(error @ OutboxError::Newer { .. }) => report.record(OUTBOX_NEWER, [rules::outbox(error)]),
        Err(
            error @ (OutboxError::OtherTable { .. }
            | OutboxError::ReplacedTable { .. }
            | OutboxError::HiddenTable { .. }
            | OutboxError::GoneTable { .. }),
        ) => {
            report.record(OUTBOX_OTHER_TABLE, [rules::outbox(error)]);
        }
    }
    required.is_ok()
}

/// Those who read the log.
async fn readers(report: &mut Report, settings: &Settings, database: &Database, connection: &mut Session) {
    let heads = async {
        Ok::<_, sqlx::Error>((system_identifier(connection).await?, rounds::heads(connection).await?))
    };
    match database.with_timeout(heads).await {
        Ok((identifier, heads)) => {
            report.record(REBASE_NEEDED, rules::foreign_positions(&heads, identifier));
            report.record(READER_UNUSED, rules::unused_readers(&heads, &readers::reader_names(settings)));
        }
        Err(error) => report.record_result(REBASE_NEEDED, Err::<Option<Problem>, _>(error)),
    }
    let stalled = database.with_timeout(backlog::stalled(connection, STANDSTILL_MAX)).await;
    report.record_result(READER_STALLED, stalled.map(rules::stalled_readers));
}

/// The application's table.
async fn tables(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    database: &Database,
    connection: &mut Session,
) {
    let table = &settings.source.table;
    if service == Service::Publisher && report.is_at_boot() {
        // It does not read the table.
        return;
    }
    let indexes = database.with_timeout(probes::indexes(connection, table)).await;
    if service == Service::Consumer {
        let found = indexes.as_ref();
        report.record_result(ID_INDEX_MISSING, found.map(|found| rules::id_index(table, found.as_ref())));
    }
    if report.is_at_boot() {
        return;
    }
    report.record_result(
        INSERTED_AT_INDEX_MISSING,
        indexes.map(|found| rules::inserted_at_index(table, found.as_ref())),
    );
    if service == Service::Consumer {
        let security = database.with_timeout(probes::row_security(connection, table)).await;
        report.record_result(ROWS_HIDDEN, security.map(|security| rules::hidden_rows(table, security)));
    }
}
