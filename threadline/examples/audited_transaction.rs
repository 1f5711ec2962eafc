//! Changes of a captured table, linked to who made them and why.
//!
//! ```sh
//! export DATABASE_URL=postgres://user@localhost/app
//! psql "$DATABASE_URL" -c 'create table users (id text primary key, suspended boolean not null)'
//! export THREADLINE_DATABASE_URL=$DATABASE_URL
//! threadline install && threadline gen-triggers --tables users --apply
//! cargo run --package threadline --example audited_transaction
//! ```

#![allow(clippy::print_stdout, reason = "an example")]

use std::{env, error::Error};

use sqlx::{Executor as _, PgPool};
use threadline::{Action, ActorRef, ActorType, AuditContext, StorageSchema, Timeline};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let admin = ActorRef::new(ActorType::Admin, Some("a1"))?;
    let audited = timeline
        .transaction(AuditContext::of(admin.clone()).request_id("req-7"))
        .action(Action::new("user.suspended", admin).reason("fraud"))
        .run(async |connection| {
            connection.execute("insert into users values (gen_random_uuid()::text, true)").await
        })
        .await?;
    println!("action {:?} of transaction {:?}", audited.action_id, audited.audit_transaction_id);
    Ok(())
}
