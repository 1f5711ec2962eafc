# Sourced by the scripts beside it: a temporary folder that goes with the script, and private servers in it.
set -eu
work=$(mktemp -d)
chmod 755 "$work"
pg_bin=${PG_BIN_DIR:-/usr/lib/postgresql/15/bin}
pids=""
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    [ ! -d "$work/data" ] || as_user "$pg_bin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

# PostgreSQL refuses to run as root.
as_user() {
    if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts a private PostgreSQL and sets `pg_port`.
start_postgres() {
    mkdir "$work/data"
    [ "$(id -u)" != 0 ] || chown nobody "$work/data"
    as_user "$pg_bin/initdb" -D "$work/data" -U postgres -A trust --no-sync >/dev/null
    pg_port=$(free_port)
    as_user "$pg_bin/pg_ctl" -D "$work/data" -l "$work/data/log" -w \
        -o "-p $pg_port -k $work/data -c listen_addresses=127.0.0.1" start >/dev/null
}

# A Rust program in the temporary folder: dependencies on standard input, the program as $1.
run_rust() {
    program=$1
    shift
    mkdir -p "$work/observe/src"
    { printf '[package]\nname = "observe"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'; cat; } \
        >"$work/observe/Cargo.toml"
    printf '%s\n' "$program" >"$work/observe/src/main.rs"
    CARGO_TARGET_DIR="$work/observe/target" cargo run --quiet --manifest-path "$work/observe/Cargo.toml" -- "$@"
}

# expect SEEN EXPECTED
expect() {
    echo "$1"
    [ "$1" = "$2" ] || { echo "CHANGED: expected '$2'" >&2; exit 1; }
}
