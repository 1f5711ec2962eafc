"""Verifies a bundle of receipts with nothing but what docs/threadline-receipts.md says of its format; signatures are left out."""

import hashlib, json, sys

BEGINNING = "0" * 64
LINES = "n database position_before position since until transactions changes actions digest previous sealed_at key".split()
COLUMNS = {
    "transaction": "id txid occurred_at source meta! actor_ref! action_id correlation_id request_id job_id context!",
    "change": "id transaction_id table_schema table_name table_pk! op data_after! changed_fields changed_from! captured_at key_before!"
    " data_before! partition json_nulls position",
    "action": "id name actor_ref! status verb category reason! comment! correlation_id request_id job_id inserted_at txid",
}
KINDS = {"transaction": 1, "change": 2, "action": 3}


def sha256(data):
    return hashlib.sha256(data).digest()


def encoded(value, erasable=False):
    if value is None:
        return b"\x00"
    if isinstance(value, dict):
        return b"\x02" + bytes.fromhex(value["sha256"])
    if isinstance(value, list):
        return b"\x03" + len(value).to_bytes(8, "big") + b"".join(map(encoded, value))
    data = value.encode()
    return b"\x02" + sha256(data) if erasable else b"\x01" + len(data).to_bytes(8, "big") + data


def leaf(kind, columns):
    names = COLUMNS[kind].split()
    assert list(columns) == [name.rstrip("!") for name in names], "columns"
    fields = (name.rstrip("!").encode() + encoded(columns[name.rstrip("!")], name.endswith("!")) for name in names)
    return sha256(b"threadline timeline leaf 1\n" + kind.encode() + b"\n" + b"".join(fields))


faults, last, digest, end = [], None, None, None
whole = hashlib.sha256()
for number, line in enumerate(open(sys.argv[1], "rb"), 1):
    ((what, body),) = json.loads(line).items()
    if what in ("receipt", "end") and last and digest.hexdigest() != last["digest"]:
        faults.append(f"line {number}: the leaves of receipt {last['n']}")
    if what == "bundle":
        assert number == 1 and body["version"] == 1, "not a bundle of this version"
    elif what == "receipt":
        text = "threadline timeline receipt 1\n" + "".join(
            f"{name} {'' if body[name] is None else body[name]}\n" for name in LINES
        )
        if sha256(text.encode()).hex() != body["hash"]:
            faults.append(f"line {number}: the hash of receipt {body['n']}")
        if last:
            follows = (last["n"] + 1, last["hash"], last["position"], last["until"])
        else:
            follows = (1, BEGINNING, None, None) if body["n"] == 1 else None
        if follows and follows != (body["n"], body["previous"], body["position_before"], body["since"]):
            faults.append(f"line {number}: receipt {body['n']} does not follow")
        last, digest = body, hashlib.sha256()
    elif what == "row":
        if body["leaf"] is None or (body["columns"] is None and "purged" not in body):
            faults.append(f"line {number}: {body['kind']} {body['id']} was slipped in or removed")
        elif body["columns"] and leaf(body["kind"], body["columns"]).hex() != body["leaf"]:
            faults.append(f"line {number}: {body['kind']} {body['id']} was changed")
        if body["leaf"]:
            digest.update(bytes([KINDS[body["kind"]]]) + bytes.fromhex(body["id"].replace("-", "")) + bytes.fromhex(body["leaf"]))
    else:
        end = body["sha256"]
        if end != whole.hexdigest():
            faults.append(f"line {number}: the lines before")
    whole.update(line)
if not end:
    faults.append("it has no last line")
print("\n".join(faults) or f"holds: {last['hash']}")
sys.exit(bool(faults))
