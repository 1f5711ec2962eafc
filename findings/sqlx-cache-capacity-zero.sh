#!/bin/sh
# sqlx 0.9.0: with `statement_cache_capacity(0)` each statement is prepared under a name of its own, is not found again,
# and is never closed: the server keeps all of them for as long as the session lives. (Debian's postgresql-15.)
. "$(dirname "$0")/lib.sh"
start_postgres
program='
use std::str::FromStr as _;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), sqlx::Error> {
    let url = std::env::args().nth(1).expect("a URL");
    let options = PgConnectOptions::from_str(&url)?.statement_cache_capacity(0);
    let mut connection = options.connect().await?;
    for _ in 0..50 {
        sqlx::query("select 1").fetch_one(&mut connection).await?;
    }
    let count = sqlx::query_scalar("select count(*) from pg_prepared_statements").persistent(false);
    let kept: i64 = count.fetch_one(&mut connection).await?;
    println!("prepared statements after the same query 50 times: {kept}");
    Ok(())
}'
seen=$(run_rust "$program" "postgres://postgres@127.0.0.1:$pg_port/postgres" <<'DEPENDENCIES'
sqlx = { version = "=0.9.0", default-features = false, features = ["postgres", "runtime-tokio"] }
tokio = { version = "1", default-features = false, features = ["macros", "rt"] }
DEPENDENCIES
)
expect "$seen" "prepared statements after the same query 50 times: 50"
