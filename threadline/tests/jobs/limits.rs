//! What a worker refuses to do, and where it refuses to work.

use std::{fs, os::unix::fs::PermissionsExt as _};

use threadline::{
    export::jobs::{self, JobRequest, Outcome},
    query::Scope,
    storage::Location,
};

use super::{Jobs, tenants::TENANTS, work};

#[tokio::test]
async fn a_worker_brings_exports_only_to_places_that_it_may() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let place = |name: &str| -> anyhow::Result<Location> {
        Ok(format!("file://{}/{name}", jobs.folder.path().display()).parse()?)
    };
    for (name, is_allowed) in
        [("stored", true), ("stored/below/it", true), ("stored2", false), ("other", false)]
    {
        let request = JobRequest { storage: place(name)?, ..jobs.request("op:update") };
        let id = jobs::add(&jobs.timeline, &Scope::everything(), &request).await?.id;
        let ended = work(&jobs.worker("made")).await?;
        match &ended[0].outcome {
            Outcome::Completed { .. } => assert!(is_allowed, "{name}"),
            Outcome::Failed { error } => {
                assert!(!is_allowed && error.starts_with("location_not_allowed: "), "{name}: {error}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(jobs.path(name).join(id.to_string()).exists(), is_allowed, "{name}");
    }
    // Too long with the names of what is stored: refused at once.
    let long = place(&"x/".repeat(450))?;
    let request = JobRequest { storage: long, ..jobs.request("") };
    let refused = jobs::add(&jobs.timeline, &Scope::everything(), &request).await.unwrap_err();
    assert_eq!(refused.term(), Some("location_invalid"));
    Ok(())
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_not_worked_in() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    fs::create_dir(jobs.path("made"))?;
    fs::set_permissions(jobs.path("made"), fs::Permissions::from_mode(0o777))?;
    jobs.add("op:update").await?;
    let ended = work(&jobs.worker("made")).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    assert!(error.starts_with("directory_not_private: ") && error.contains("--directory"), "{error}");
    fs::set_permissions(jobs.path("made"), fs::Permissions::from_mode(0o755))?;
    jobs.time_passes().await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    Ok(())
}

/// Several databases may be worked on in one folder.
#[tokio::test]
async fn files_of_jobs_that_another_database_knows_stay() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let others = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?;
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::PutOff { .. }));
    let made = super::files(&jobs.path("made"))?;
    assert!(!made.is_empty());
    let other = jobs::Worker::new(others.timeline.clone(), jobs.path("made"));
    other.clean().await?;
    assert_eq!(super::files(&jobs.path("made"))?, made);
    jobs::cancel(&jobs.timeline, id).await?;
    jobs.worker("made").clean().await?;
    assert_eq!(super::files(&jobs.path("made"))?, Vec::<String>::new());
    jobs.execute("delete from threadline_export_jobs").await
}
