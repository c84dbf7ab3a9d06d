"""redis-py, one node, RESP2 and RESP3: a node fetches foreign keys after READONLY."""
import json

import redis
from common import NODES, sql, until

for protocol in (2, 3):
    client = redis.Redis(*NODES[0], protocol=protocol, decode_responses=True, single_connection_client=True)
    assert client.ping()
    client.execute_command("READONLY")
    assert json.loads(client.get("user:42"))["id"] == 42
    assert client.get("user:424242") is None
    for options in ({}, {"transaction": False}):  # pipelines are transactions by default
        with client.pipeline(**options) as pipe:
            pipe.immediate_execute_command("READONLY")  # a pipeline has a connection of its own, and MULTI names keys of others
            for number in range(1, 30):
                pipe.get(f"user:{number}")
            assert [json.loads(value)["id"] for value in pipe.execute()] == list(range(1, 30))
    # All of it is written before any of it is read: far more than sockets take.
    with client.pipeline(transaction=False) as pipe:
        pipe.immediate_execute_command("READONLY")
        for _ in range(300):
            pipe.mget(["user:42"] * 500)
        assert all(len(values) == 500 for values in pipe.execute())
    assert len(client.mget("user:1", "user:2")) == 2
    city = f"City {protocol}"
    sql(f"UPDATE users SET city = '{city}' WHERE id = 42")
    until("the change to be read", lambda: json.loads(client.get("user:42"))["city"] == city)
    assert client.delete("user:42") in (0, 1)
    try:
        client.execute_command("FLUSHALL")
        raise SystemExit("FLUSHALL is no command")
    except redis.ResponseError as error:
        assert "unknown command" in str(error), error
    assert client.info()["redis_mode"] == "cluster"
