"""redis-py in cluster mode: every key is asked of its owner, and no node has to fetch any."""
import json

import redis
from common import NODES, sql, until

cluster = redis.RedisCluster(*NODES[0], decode_responses=True)
assert len(cluster.get_nodes()) == len(NODES)
for number in range(1, 100):
    assert json.loads(cluster.get(f"user:{number}"))["id"] == number
assert cluster.get("user:424242") is None
values = cluster.mget_nonatomic("user:1", "user:2", "user:3")
assert [json.loads(value)["id"] for value in values] == [1, 2, 3]
sql("UPDATE users SET city = 'Clusterville' WHERE id = 7")
until("the change to be read", lambda: json.loads(cluster.get("user:7"))["city"] == "Clusterville")
