//! Records an action in the transaction of what it is about: both are there, or neither is.
//!
//! ```sh
//! DATABASE_URL=postgres://user@localhost/app cargo run --package threadline --example record_action
//! ```
//!
//! It creates Threadline's tables in that database where they are missing.

#![allow(clippy::print_stdout, reason = "an example")]

use std::{env, error::Error};

use sqlx::PgPool;
use threadline::{Action, ActorRef, ActorType, StorageSchema, Timeline};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    // Repeating it has no effect. An application does it where it runs its own migrations.
    timeline.install().await?;

    let admin = ActorRef::new(ActorType::Admin, Some("a1"))?;
    let mut transaction = timeline.pool().begin().await?;
    sqlx::query("create temporary table users (id text primary key, suspended boolean not null)")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("insert into users values ('u1', true)").execute(&mut *transaction).await?;
    let action = Action::new("user.suspended", admin).reason("fraud");
    let recorded = action.record(&mut transaction, timeline.schema()).await?;
    transaction.commit().await?;
    println!("recorded {}", recorded.id);
    Ok(())
}
