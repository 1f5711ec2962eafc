#!/bin/sh
# sqlx 0.9.0: a URL that names no user is that of a user called "anonymous", whoever runs the process: its dependency whoami is built
# without the feature that asks the system. libpq takes the name of the system's user.
. "$(dirname "$0")/lib.sh"
program='
use std::str::FromStr as _;
fn main() -> Result<(), sqlx::Error> {
    let options = sqlx::postgres::PgConnectOptions::from_str("postgres://localhost/app")?;
    println!("user of a URL without one: {}", options.get_username());
    Ok(())
}'
seen=$(unset PGUSER; run_rust "$program" <<'DEPENDENCIES'
sqlx = { version = "=0.9.0", default-features = false, features = ["postgres", "runtime-tokio"] }
DEPENDENCIES
)
expect "$seen" "user of a URL without one: anonymous"
