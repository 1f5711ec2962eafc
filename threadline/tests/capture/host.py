"""What a host in Python does: audited transactions by psycopg, prepared by the server from the second one on."""

import json
import os

import psycopg
from psycopg.types.json import Jsonb

said = []
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=1) as connection:
    connection.execute("select set_config('role', %s, false)", [os.environ["HOST_ROLE"]])
    for post in range(8):
        with connection.transaction():
            actor = {"type": "user", "id": f"u-{post}"}
            connection.execute("select threadline_begin(%s)", [Jsonb({"actor": actor, "request_id": f"r-{post}", "tenant": "é"})])
            connection.execute("insert into posts (id, title) values (%s, %s)", [post, "a"])
            action, transaction, recorded_at = connection.execute(
                "select action_id, transaction_id, recorded_at from threadline_record_action(%s, %s)",
                ["post.created", Jsonb({"reason": "because"})],
            ).fetchone()
            linked = connection.execute("select threadline_link(%s)", [Jsonb({"post": post})]).fetchone()[0]
            assert linked == transaction and action is not None and recorded_at.tzinfo is not None
    for statements in (["select threadline_begin('{}')"], ["select threadline_begin('{\"actor\": {\"type\": \"anonymous\"}}')"] * 2):
        try:
            with connection.transaction():
                connection.execute("insert into posts (id) values (100)")
                for statement in statements:
                    connection.execute(statement)
        except psycopg.Error as error:
            said.append([error.sqlstate, error.diag.message_primary, error.diag.message_hint is not None])
    # A savepoint that is rolled back takes its changes with it, and the transaction continues.
    with connection.transaction():
        connection.execute("select threadline_begin(%s)", [Jsonb({"actor": {"type": "system", "id": "python"}})])
        try:
            with connection.transaction():
                connection.execute("insert into posts (id) values (101)")
                raise ValueError
        except ValueError:
            pass
        connection.execute("insert into posts (id) values (102)")
print(json.dumps(said))
