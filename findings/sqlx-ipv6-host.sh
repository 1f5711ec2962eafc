#!/bin/sh
# sqlx 0.9.0: the host of a connection URL with an IPv6 literal keeps its brackets, and connecting asks a resolver for
# "[::1]". libpq and psql take the same URL.
. "$(dirname "$0")/lib.sh"
program='
use std::str::FromStr as _;
fn main() {
    let options = sqlx::postgres::PgConnectOptions::from_str("postgres://postgres@[::1]:5432/postgres").expect("a URL");
    println!("host: {}", options.get_host());
}'
seen=$(run_rust "$program" <<'DEPENDENCIES'
sqlx = { version = "=0.9.0", default-features = false, features = ["postgres", "runtime-tokio"] }
DEPENDENCIES
)
expect "$seen" "host: [::1]"
