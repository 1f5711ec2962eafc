//! What a role may not do is refused with the role that may.

use super::Host;

#[tokio::test]
async fn a_right_that_is_missing_is_said_with_the_role_that_has_it() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    let capture_off = ["capture", "off", "--tables", "public.users", "--actor", "admin:a1", "--reason", "x"];
    for (role, arguments, granted) in [
        ("audit_projector", &["timeline"][..], "audit_reader"),
        ("audit_projector", &["history", "users", "1"], "audit_reader"),
        ("audit_projector", &["verify-coverage"], "audit_reader"),
        ("audit_projector", &["policy", "show"], "audit_reader"),
        ("audit_projector", &["receipts", "verify"], "audit_reader"),
        ("audit_projector", &["retention", "runs"], "audit_reader"),
        ("audit_reader", &["receipts", "seal"], "audit_sealer"),
        ("audit_reader", &["export", "jobs", "list"], "audit_exporter"),
        ("audit_reader", &["verify-coverage", "--record"], "the owner of the timeline"),
        ("audit_reader", &["gen-triggers", "--apply"], "the owner of the timeline"),
        ("audit_reader", &capture_off, "the owner of the timeline"),
        ("audit_reader", &["install", "--schema", "elsewhere"], "may create tables in the schema"),
    ] {
        let url = sandbox::rights::as_role(&host.database.url, role);
        let ended = host.threadline_as(&url, arguments)?;
        assert_eq!(ended.status, Some(1), "{arguments:?}: {}{}", ended.out, ended.error);
        let said = &ended.error;
        assert!(said.contains("SQLSTATE 42501"), "{arguments:?}: {said}");
        assert!(
            said.contains("deploy/postgres/timeline.sql") && said.contains(granted),
            "{arguments:?}: {said}"
        );
        assert!(!said.contains(" at line "), "{arguments:?}: {said}");
    }
    Ok(())
}
