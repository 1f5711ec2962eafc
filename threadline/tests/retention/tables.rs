//! Tables that a policy names.

use sqlx::{AssertSqlSafe, Executor as _};
use threadline::retention::{Archive, Keep};

use super::{
    DAY,
    commands::{command, ended},
    counts, host, options, table, ten_days, term,
};

#[tokio::test]
async fn a_misspelt_table_is_refused_with_the_one_that_is_meant_and_nothing_is_deleted() -> anyhow::Result<()>
{
    let mut host = host().await?;
    host.record(&[(1, "billing.invoices", 20 * DAY), (2, "public.posts", 20 * DAY)]).await?;
    let policy = ten_days().table(table("billing.invoces"), Keep::Forever);
    for is_dry in [true, false] {
        let error =
            host.timeline.purge(&policy, &options(|options| options.dry_run = is_dry)).await.unwrap_err();
        let expected = "the policy names billing.invoces, and there is no such table, and no change of one; if billing.invoices is meant, \
                        correct the name in [retention.tables]; otherwise remove it there";
        assert_eq!(error.to_string(), expected);
        assert_eq!(term(Err::<(), _>(error)), Some("table_unknown"));
    }
    assert_eq!(host.left().await?.len(), 2);
    // Whoever has it run at intervals finds out why.
    let run: (String, String) = sqlx::query_as("select status, error_message from threadline_retention_runs")
        .fetch_one(&mut host.connection)
        .await?;
    assert_eq!(run.0, "failed");
    assert!(run.1.starts_with("table_unknown: the policy names billing.invoces"), "{}", run.1);
    assert_eq!(host.count("threadline_leases").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_misspelt_table_of_the_settings_ends_with_status_2_and_its_term() -> anyhow::Result<()> {
    let host = host().await?;
    let settings =
        "[retention]\nenabled = true\nkeep_days = 10\n[retention.tables]\nnowhere = { keep_days = 2 }\n";
    for how in ["--dry-run", "--execute"] {
        let ended = ended(command(&host.database, settings, &["retention", "purge", how])?)?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{}", ended.error);
        assert!(
            ended.error.starts_with("error: table_unknown: the policy names public.nowhere")
                && ended
                    .error
                    .contains("correct the name in [retention.tables], SCHEMA.NAME, or remove it there"),
            "{}",
            ended.error
        );
    }
    Ok(())
}

/// What is the timeline's own is no table of the host, whatever its name.
#[tokio::test]
async fn a_table_is_known_by_itself_by_its_changes_or_by_its_archive() -> anyhow::Result<()> {
    let mut host = host().await?;
    let policy = |name: &str| ten_days().table(table(name), Keep::days(5).unwrap());
    let refused = host.purge(&policy("audit_actions")).await;
    assert_eq!(term(refused), Some("table_unknown"));
    assert_eq!(term(host.purge(&policy("invoices")).await), Some("table_unknown"));
    host.connection.execute("create table invoices (id int primary key)").await?;
    assert_eq!(counts(&host.purge(&policy("invoices")).await?), (0, 0, 0, 0));
    // The same behind its end: what is recorded of it is known, and then what is archived of it.
    host.record(&[(1, "invoices", 7 * DAY), (2, "posts", 7 * DAY)]).await?;
    host.connection.execute(AssertSqlSafe("drop table invoices")).await?;
    let archive = Archive::new(host.archives_in()?);
    let with = options(|options| options.archive = Some(archive));
    assert_eq!(counts(&host.timeline.purge(&policy("invoices"), &with).await?), (1, 1, 0, 1));
    assert_eq!(counts(&host.timeline.purge(&policy("invoices"), &with).await?), (0, 0, 0, 0));
    Ok(())
}
