#!/bin/sh
# async-nats 0.51.0: user and password of a server URL are not sent. The same URL is taken by nats-py 2.16.0, and by the
# command line client. (Debian's nats-server 2.9.10.)
. "$(dirname "$0")/lib.sh"
server=$(command -v nats-server || echo /usr/sbin/nats-server)
port=$(free_port)
"$server" -a 127.0.0.1 -p "$port" --user app --pass secret >"$work/nats.log" 2>&1 &
pids=$!
program='
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("a URL");
    match async_nats::connect(url).await {
        Ok(_) => println!("async-nats: connected"),
        Err(error) => println!("async-nats: {error}"),
    }
}'
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nats-py==2.16.0
other=$("$work/venv/bin/python" - "$port" <<'PYTHON'
import asyncio, sys, nats
async def main():
    connection = await nats.connect(f"nats://app:secret@127.0.0.1:{sys.argv[1]}", connect_timeout=10)
    print("nats-py: connected")
    await connection.close()
asyncio.run(main())
PYTHON
)
expect "$other" "nats-py: connected"
seen=$(run_rust "$program" "nats://app:secret@127.0.0.1:$port" <<'DEPENDENCIES'
async-nats = { version = "=0.51.0", default-features = false, features = ["ring"] }
tokio = { version = "1", default-features = false, features = ["macros", "rt"] }
DEPENDENCIES
)
expect "$seen" "async-nats: authorization violation: nats: authorization violation"
