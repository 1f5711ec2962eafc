//! What is refused before anything is erased.

use threadline::{
    ActorRef, ActorType,
    erasure::{Erasure, ErasureOptions, ErasurePolicy, REASON_MAX},
};

use super::{actor, host, person, row, term};

#[tokio::test]
async fn what_would_stand_in_the_record_of_its_own_erasure_is_refused() -> anyhow::Result<()> {
    let host = host().await?;
    let by = |kind, id| {
        let mut options = ErasureOptions::because("request R-98765");
        options.actor = Some(ActorRef::new(kind, Some(id)).unwrap());
        options
    };
    let because = |reason: &str| ErasureOptions::because(reason);
    let long = "a".repeat(REASON_MAX + 1);
    for (erasure, options, expected) in [
        (row("users", "jane@x"), because(""), "reason_missing"),
        (row("users", "jane@x"), because(" \n"), "reason_missing"),
        (row("users", "jane@x"), because("a\0b"), "reason_missing"),
        (row("users", "jane@x"), because(&long), "reason_missing"),
        (actor("user", "jane@x", false), because("request of JANE@X"), "reason_names_subject"),
        (person("7"), because("user 7 asked"), "reason_names_subject"),
        (actor("user", "jane@x", false), by(ActorType::User, "jane@x"), "actor_is_subject"),
        (person("jane@x"), by(ActorType::Admin, "jane@x"), "actor_is_subject"),
        (person(""), because("request R-98765"), "subject_invalid"),
        (
            Erasure::Actor { actor: ActorRef::anonymous(), texts: false },
            because("request R-98765"),
            "subject_invalid",
        ),
        (
            Erasure::Person { id: "7".to_owned(), policy: ErasurePolicy::default() },
            because("request R-98765"),
            "policy_missing",
        ),
    ] {
        let refused = host.timeline.erase(&erasure, &options).await;
        assert_eq!(term(refused), Some(expected), "{erasure:?} {options:?}");
    }
    let mut options = because("request R-98765");
    options.batch_size = 0;
    assert_eq!(term(host.timeline.erase(&person("7"), &options).await), Some("option_invalid"));
    Ok(())
}

#[tokio::test]
async fn a_timeline_of_an_older_version_is_told_from_a_server_that_is_away() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3); alter table audit_changes drop column erased")
        .await?;
    assert_eq!(term(host.erase(&row("users", 1)).await), Some("timeline_incomplete"));
    host.run("drop table threadline_erasures").await?;
    assert_eq!(term(host.erase(&row("users", 1)).await), Some("timeline_incomplete"));
    Ok(())
}

#[tokio::test]
async fn a_second_erasure_is_refused_while_one_is_on() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'a@x', 'A', 3)").await?;
    let mut other = host.database.connect().await?;
    let lease = threadline::lease::Lease::new("erasure");
    lease.take(&mut other, host.timeline.schema()).await?.map_err(|held| anyhow::anyhow!("{held:?}"))?;
    let refused = host.erase(&row("users", 1)).await.unwrap_err();
    assert_eq!(refused.term(), Some("erasure_is_on"));
    assert!(refused.to_string().contains(lease.holder()), "{refused}");
    assert_eq!(host.count("threadline_erasures").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_is_waited_for_and_not_left() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'jane-marker@x', 'A', 3)").await?;
    let mut other = host.database.connect().await?;
    sqlx::Executor::execute(&mut other, "begin; select from audit_changes for update").await?;
    let mut options = ErasureOptions::because("request R-98765");
    options.locked_limit = std::time::Duration::from_secs(1);
    assert_eq!(term(host.timeline.erase(&row("users", 1), &options).await), Some("locked"));
    sqlx::Executor::execute(&mut other, "rollback").await?;
    let erased = host.timeline.erase(&row("users", 1), &options).await?;
    assert!(erased.is_resumed && erased.is_complete, "{erased:?}");
    assert!(host.tables_with("jane-marker").await?.is_empty());
    assert_eq!(host.count("threadline_erasures").await?, 1);
    Ok(())
}
