//! Asking and cancelling in the caller's transaction: with what else is in it, or not at all.

use threadline::{
    ActorRef, ActorType, StorageSchema,
    export::jobs::{self, JobRequest},
    query::Scope,
};
use uuid::Uuid;

use super::{Jobs, work};

fn request(jobs: &Jobs) -> JobRequest {
    let actor = ActorRef::new(ActorType::Admin, Some("a1")).unwrap();
    JobRequest { actor: Some(actor), ..jobs.request("") }
}

#[tokio::test]
async fn a_job_of_a_transaction_that_was_rolled_back_is_never_made() -> anyhow::Result<()> {
    let jobs = Jobs::after("").await?;
    let (schema, scope, id) = (StorageSchema::default(), Scope::everything(), Uuid::now_v7());
    let mut transaction = jobs.timeline.pool().begin().await?;
    jobs::add_within(&mut transaction, &schema, id, &scope, &request(&jobs)).await?;
    transaction.rollback().await?;
    assert!(work(&jobs.worker("made")).await?.is_empty());
    assert!(jobs::get(&jobs.timeline, id).await?.is_none());

    let mut transaction = jobs.timeline.pool().begin().await?;
    jobs::add_within(&mut transaction, &schema, id, &scope, &request(&jobs)).await?;
    transaction.commit().await?;
    let mut transaction = jobs.timeline.pool().begin().await?;
    let again = jobs::add_within(&mut transaction, &schema, id, &scope, &request(&jobs)).await;
    assert_eq!(again.unwrap_err().term(), Some("job_exists"));
    transaction.rollback().await?;
    // Cancelled in a transaction that comes to nothing, it is made all the same.
    let mut transaction = jobs.timeline.pool().begin().await?;
    jobs::cancel_within(&mut transaction, &schema, id).await?;
    transaction.rollback().await?;
    work(&jobs.worker("made")).await?;
    let job = jobs.job(id).await?;
    assert_eq!(job.status, "completed");
    assert!(job.is_of(&ActorRef::new(ActorType::Admin, Some("a1"))?) && !job.is_of(&ActorRef::anonymous()));
    let (filter, options, of) = job.exports().unwrap();
    assert_eq!((filter, options, of), ("".parse()?, request(&jobs).options, scope));
    let mut connection = jobs.database.connect().await?;
    let ended = jobs::cancel_within(&mut connection, &schema, id).await;
    assert_eq!(ended.unwrap_err().term(), Some("job_state"));
    Ok(())
}

#[tokio::test]
async fn nobody_asks_for_nobody() -> anyhow::Result<()> {
    let jobs = Jobs::after("").await?;
    let (schema, scope) = (StorageSchema::default(), Scope::everything());
    let mut connection = jobs.database.connect().await?;
    for actor in [None, Some(ActorRef::anonymous())] {
        let request = JobRequest { actor, ..jobs.request("") };
        let added = jobs::add_within(&mut connection, &schema, Uuid::now_v7(), &scope, &request).await;
        assert_eq!(added.unwrap_err().term(), Some("actor_missing"));
    }
    Ok(())
}
