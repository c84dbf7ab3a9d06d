"""redis-py with client-side caching: a change by SQL is pushed to it, and how long that takes."""
import json
import time

import redis
from redis.cache import CacheConfig
from common import NODES, sql, until

cluster = redis.RedisCluster(*NODES[0], decode_responses=True)
owner = cluster.get_node_from_key("user:42")
client = redis.Redis(owner.host, owner.port, protocol=3, decode_responses=True, cache_config=CacheConfig(),
                     single_connection_client=True)
until("the value to be kept by node and client", lambda: client.get("user:42") and client.get_cache().size == 1)
sql("UPDATE users SET city = 'Pushed' WHERE id = 42")
until("the change to reach the local cache", lambda: json.loads(client.get("user:42"))["city"] == "Pushed")

# From the commit to the push, by a connection that does nothing but listen.
listener = redis.Redis(owner.host, owner.port, protocol=3).connection_pool.get_connection()
listener.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:42")
assert listener.read_response() == b"OK"
pushed = []
listener._parser.set_invalidation_push_handler(lambda push: pushed.append(time.monotonic()))
delays = []
for number in range(100):
    before = len(pushed)
    sql(f"UPDATE users SET city = 'City {number}' WHERE id = 42")
    done = time.monotonic()
    while len(pushed) == before:
        listener.read_response(push_request=True, timeout=30)
    delays.append(max(0.0, pushed[-1] - done) * 1000)
delays.sort()
print(f"from the end of `freshline sql` to the push: p50 {delays[50]:.1f} ms, p99 {delays[98]:.1f} ms")
