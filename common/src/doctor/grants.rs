//! Which privileges a service needs on the outbox, and what a missing one means.

use super::{Problem, Service, probes::MissingGrant};

/// What of the outbox a service reads and writes: relation, privilege, and the columns that it is needed on, all of them (`*`),
/// or whichever.
pub(super) fn needs(service: Service, retention: bool) -> Vec<(&'static str, &'static str, &'static str)> {
    const ROUND: &str = "insert reader,n,s,t,after_xid,after_seq,generation,system_identifier,stream_created,stream_seq,stream_event";
    const LEASE: &[&str] =
        &["select *", "insert name,holder,expires_at", "update holder,expires_at", "delete"];
    const HORIZON: &[&str] = &[
        "select *",
        "insert pruned_to,stream_created,stream_seq",
        "update pruned_to,pruned_at,stream_created,stream_seq",
    ];
    let tables: &[(&str, &[&str])] = match service {
        Service::Publisher => &[
            ("source", &["select *"]),
            ("attached_table", &["execute"]),
            ("base_type", &["execute"]),
            ("faults", &["execute"]),
            ("missed", &["select *"]),
            ("entries", &["select *", "insert audit_event_id,forwarder", "delete"]),
            ("rounds", &["select *", ROUND, "delete"]),
            ("leases", LEASE),
            ("streams", &["select *", "insert created,kept_from", "update kept_from"]),
            ("horizon", HORIZON),
            (
                "settled",
                &[
                    "select *",
                    "insert reader,generation,stream_created,stream_seq,s,ever",
                    "update generation,stream_created,stream_seq,s,ever,at",
                ],
            ),
            (
                "failures",
                &[
                    "select forwarder,ref,audit_event_id,state,next_attempt_at",
                    "update state,next_attempt_at",
                ],
            ),
        ],
        Service::Consumer => &[
            ("source", &["select *"]),
            ("attached_table", &["execute"]),
            ("base_type", &["execute"]),
            ("faults", &["execute"]),
            ("missed", &["select *"]),
            ("entries", &["select *", "insert audit_event_id,occurred_at,forwarder", "delete"]),
            ("rounds", &["select *", ROUND, "delete"]),
            ("leases", LEASE),
            ("horizon", HORIZON),
            ("settled", &["select *"]),
            ("forwarders", &["select *", "insert forwarder,since", "update since,at,dropped_at"]),
            (
                "failures",
                &[
                    "select forwarder,ref,audit_event_id,state,reason,error,attempts,started,first_failed_at,next_attempt_at",
                    "insert forwarder,ref,audit_event_id,state,reason,error,attempts,started,next_attempt_at,excerpt",
                    "update state,reason,error,attempts,started,next_attempt_at,last_failed_at",
                    "delete",
                ],
            ),
            ("acts", &["insert actor,kind,filter,count,reason"]),
            (
                "reconciled",
                &[
                    "select *",
                    "insert forwarder,s,system_identifier,checked,missing,t,after_xid,after_seq",
                    "update s,system_identifier,checked,missing,t,after_xid,after_seq,at",
                ],
            ),
        ],
    };
    let watched: &[(&str, &[&str])] =
        if retention { &[("undelivered", &["select"]), ("undelivered_rows", &["execute"])] } else { &[] };
    let each = |&(table, privileges): &(&'static str, &'static [&'static str])| {
        privileges.iter().map(move |privilege| ("outbox", table, *privilege))
    };
    tables.iter().chain(watched).flat_map(each).collect()
}

/// Grants that are missing.
pub(super) fn missing(missing: Vec<MissingGrant>) -> Vec<Problem> {
    let problem = |MissingGrant { privileges, object, role, .. }: MissingGrant| {
        Problem::new(
            format!("the role {role} lacks {privileges} on {object}"),
            format!("run as its owner: grant {privileges} on {object} to {role}"),
        )
    };
    missing.into_iter().map(problem).collect()
}

/// Whether a missing grant keeps us from looking at the outbox.
pub(super) fn hides_the_outbox(MissingGrant { privileges, object, schema, .. }: &MissingGrant) -> bool {
    schema == "outbox"
        && (privileges == "usage"
            || privileges.contains("select")
            || privileges == "execute" && !object.contains("undelivered"))
}

/// Who cannot make partitions of the captured table, each of which gets its trigger.
pub(super) fn partition_owner(owner: Option<(String, String)>) -> Option<Problem> {
    owner.map(|(role, table)| {
        Problem::new(
            format!("the role {role}, which owns {table}, lacks execute on function outbox.capture(): it can make no partition"),
            format!("run as the owner of the schema outbox: grant execute on function outbox.capture() to {role}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_table_is_not_taken_for_the_outbox_by_its_name() {
        let lacks = |privileges: &str, schema: &str, object: &str| {
            hides_the_outbox(&MissingGrant {
                privileges: privileges.into(),
                object: object.into(),
                schema: schema.into(),
                role: "audit_consumer".into(),
            })
        };
        assert!(lacks("usage", "outbox", "schema outbox"));
        assert!(lacks("select (audit_event_id)", "outbox", "outbox.entries"));
        assert!(lacks("execute", "outbox", "function outbox.attached_table()"));
        assert!(!lacks("execute", "outbox", "function outbox.undelivered_rows(timestamp with time zone)"));
        assert!(!lacks("insert", "outbox", "outbox.entries"));
        assert!(!lacks("select", "app", "app.outbox_events"));
        assert!(!lacks("usage", "outbox_app", "schema outbox_app"));
    }
}
