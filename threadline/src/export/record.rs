//! An export is an act: it stands in the timeline that it was taken from, with evidence of what was handed over.

use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{ExportError, Manifest};
use crate::{
    Action, ActorRef, ActorType, StorageSchema,
    evidence::{Entrypoint, Record, Subject},
    query::Statement,
};

/// The name of the action.
pub(crate) const EXPORTED: &str = "audit.exported";

const EVIDENCE: &str = "threadline_evidence_records";

/// Who is recorded: whoever is named, or the service account of whoever is connected.
///
/// # Errors
/// `actor_missing`, `not_recordable`, and what the database says.
pub(super) async fn recorder(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    named: Option<ActorRef>,
) -> Result<ActorRef, ExportError> {
    if named.as_ref().is_some_and(|actor| actor.kind() == ActorType::Anonymous) {
        return Err(ExportError::refused(
            "actor_missing",
            "nobody is named who exports: say --actor TYPE:ID",
        ));
    }
    let mut rights = Statement::new("select session_user::text, pg_is_in_recovery()");
    for table in ["audit_actions", EVIDENCE] {
        rights
            .push(", coalesce(has_table_privilege(to_regclass(")
            .bind(schema.table(table))
            .push("), 'insert'), false)");
    }
    let row = rights.query().fetch_one(connection).await?;
    let user: String = row.try_get(0)?;
    let refuse = |why: String, remedy: &str| {
        let reason =
            format!("the export would not be recorded in the timeline: {why}. {remedy}, or say --unrecorded");
        Err(ExportError::refused("not_recordable", reason))
    };
    if row.try_get(1)? {
        return refuse("this is a standby, which takes no records".to_owned(), "Export from the primary");
    }
    if !(row.try_get::<bool, _>(2)? && row.try_get::<bool, _>(3)?) {
        let why = format!("the role {user} may not insert into audit_actions and {EVIDENCE}");
        return refuse(why, "Connect as audit_exporter of deploy/postgres/timeline.sql");
    }
    named
        .map_or_else(|| ActorRef::new(ActorType::ServiceAccount, Some(user)), Ok)
        .map_err(|error| ExportError::refused("not_recordable", format!("{error}: say --actor TYPE:ID")))
}

/// Records a complete export: an action, and evidence of subject `export_delivery`, in one transaction.
pub(super) async fn record(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    actor: ActorRef,
    manifest: &Manifest,
    manifest_sha256: &str,
) -> Result<(), sqlx::Error> {
    let comment = json!({
        "format": manifest.format,
        "profile": manifest.profile,
        "rows": manifest.rows.total(),
        "sha256": manifest.sha256,
        "filter": manifest.filter,
    });
    let detail = json!({
        "format": manifest.format,
        "profile": manifest.profile,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "truncated": manifest.truncated,
        "filter": manifest.filter,
        "scope": manifest.scope,
        "snapshot": manifest.snapshot,
        "manifest_sha256": manifest_sha256,
        "key": manifest.key,
    });
    let mut transaction = connection.begin().await?;
    Action::new(EXPORTED, actor.clone())
        .verb("export")
        .category("audit")
        .comment(comment.to_string())
        .record(&mut transaction, schema)
        .await?;
    let subject_ref = json!({ "sha256": manifest.sha256 });
    Record::new(Subject::ExportDelivery, subject_ref, "completed")
        .made_by(Entrypoint::Export)
        .actor(actor)
        .detail(detail)
        .append(&mut transaction, schema)
        .await?;
    transaction.commit().await
}
