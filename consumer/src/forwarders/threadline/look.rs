//! A look at the timeline, without writing to it.

use common::doctor::{
    Trouble,
    checks::{
        CONNECTION_UNENCRYPTED, TIMELINE_GRANT_MISSING, TIMELINE_KEY_MISSING, TIMELINE_MISSING,
        TIMELINE_STANDBY, TIMELINE_UNREACHABLE,
    },
    source::unreachable,
};
use sqlx::PgConnection;
use threadline::{Fitness, StorageSchema, action, fitness};

use super::{Timeline, failed, unavailable};
use crate::forwarder::{ForwardError, Looked};

/// Names the place that actions are written to.
pub(super) async fn target(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<String, sqlx::Error> {
    let (identifier, database): (i64, String) =
        sqlx::query_as("select system_identifier, current_database()::text from pg_control_system()")
            .fetch_one(connection)
            .await?;
    Ok(format!("threadline {identifier}/{database}/{schema}"))
}

/// On one connection, all there is to say.
pub(super) async fn look(timeline: &Timeline) -> Looked {
    let mut made = vec![(CONNECTION_UNENCRYPTED, timeline.unencrypted.clone())];
    let seen = async {
        let Timeline { database, schema, .. } = timeline;
        let mut connection = database.connect_directly().await?;
        let target = database.within(target(&mut connection, schema)).await?;
        Ok::<_, sqlx::Error>((target, database.within(fitness(&mut connection, schema)).await?))
    };
    let (target, fitness) = match seen.await {
        Ok(seen) => seen,
        Err(error) => {
            let keys = "threadline.url, THREADLINE_DATABASE_URL or the forwarder's url";
            made.push((TIMELINE_UNREACHABLE, Some(unreachable("the timeline database", keys, &error))));
            return Looked { target: None, made };
        }
    };
    made.push((TIMELINE_UNREACHABLE, None));
    made.extend(judge(&timeline.schema, &fitness));
    Looked { target: Some(target), made }
}

/// Of an error about a table, a column or a grant: whether the timeline's are what is wrong, or something that a host's
/// trigger or policy names for some events only. The same statement without any rows tells.
pub(super) async fn blame(timeline: &Timeline, error: &sqlx::Error) -> ForwardError {
    let Timeline { database, table, .. } = timeline;
    let empty = async {
        let mut connection = database.connect_directly().await?;
        database.within(action::insert_new(&mut connection, table, &[])).await
    };
    if empty.await.is_ok() { failed(error) } else { unavailable(error) }
}

fn judge(
    schema: &StorageSchema,
    fitness: &Fitness,
) -> Vec<(&'static common::doctor::Check, Option<Trouble>)> {
    let Fitness { is_standby, is_installed, missing_grants, has_key, role } = fitness;
    let standby = is_standby.then(|| {
        Trouble::new(
            "the timeline is on a standby, where nothing can be written",
            "let its URL lead to the primary, or promote this server",
        )
    });
    let missing = (!is_installed).then(|| {
        Trouble::new(
            format!("there is no table {schema}.audit_actions"),
            format!("run `threadline install --schema {schema}`"),
        )
    });
    let mut made = vec![(TIMELINE_STANDBY, standby), (TIMELINE_MISSING, missing)];
    if !is_installed {
        return made;
    }
    made.push((TIMELINE_GRANT_MISSING, None));
    for privilege in missing_grants {
        let object =
            if privilege == "usage" { format!("schema \"{schema}\"") } else { schema.table("audit_actions") };
        let trouble = Trouble::new(
            format!("the role {role} lacks {privilege} on {object}"),
            format!("run as its owner: grant {privilege} on {object} to {role}"),
        );
        made.push((TIMELINE_GRANT_MISSING, Some(trouble)));
    }
    let keyless = (!has_key).then(|| {
        Trouble::new(
            format!("no unique index of {schema}.audit_actions is over id: an event that comes again is there twice"),
            format!("run: alter table {} add primary key (id)", schema.table("audit_actions")),
        )
    });
    made.push((TIMELINE_KEY_MISSING, keyless));
    made
}
