"""Client-side caches over pipelines of 1, 16 and 256, while rows change and keys are removed: none keeps what was removed.

Each cache does what client libraries do, in the order of the bytes: it keeps a reply, drops what a push names, and asks again only for what
it does not have. What it is not told of it holds for ever, so all that matters is seen at the end.
"""
import json
import random
import threading
import time

import redis
from common import NODES, sql, until

SECONDS = 8
KEYS = [f"user:{number}" for number in range(1, 301)]
SIZES = (1, 16, 256)
CLUSTER = redis.RedisCluster(*NODES[0])
MODES = ((), ("OPTOUT",), ("NOLOOP",), ("BCAST", "PREFIX", "user:"))


class Cache:
    def __init__(self, node, size, mode):
        self.size, self.mode, self.values, self.pushes, self.reads = size, mode, {}, 0, 0
        self.connection = redis.Connection(*node, protocol=3, decode_responses=True)
        self.connection.connect()
        self.connection._parser.set_invalidation_push_handler(self.invalidate)
        # A node answers keys of others as well, but does not keep them.
        self.keys = [key for key in KEYS if CLUSTER.get_node_from_key(key).port == node[1]]
        assert self.ask("CLIENT", "TRACKING", "ON", *mode) == "OK"

    def ask(self, *words):
        self.connection.send_command(*words)
        return self.connection.read_response()

    def invalidate(self, push):
        self.pushes += 1
        if push[1] is None:
            self.values.clear()
        else:
            for key in push[1]:
                self.values.pop(key.decode() if isinstance(key, bytes) else key, None)

    def read_what_is_missing(self):
        """One pipeline, of single gets and of some that name two keys of one slot."""
        missing = [key for key in random.sample(self.keys, len(self.keys)) if key not in self.values][: self.size]
        commands = [("MGET", key, key) if random.random() < 0.2 else ("GET", key) for key in missing]
        if not commands:
            return self.ask("PING")
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        for command in commands:
            reply = self.connection.read_response()
            self.values[command[1]] = reply[-1] if command[0] == "MGET" else reply
            self.reads += 1

    def run(self, end):
        while time.monotonic() < end:
            self.read_what_is_missing()


def change(end, removing):
    """Removes keys all the time, which makes misses among the hits; and changes rows, as often as a process can be started."""
    number = 0
    while time.monotonic() < end:
        if removing:
            client = removing[number % len(removing)]
            client.delete(*random.sample(KEYS, 5))
            time.sleep(0.001)
        else:
            ids = ", ".join(key.split(":")[1] for key in random.sample(KEYS, 40))
            sql(f"UPDATE users SET city = 'City {number}' WHERE id IN ({ids})")
        number += 1


caches = [Cache(node, size, mode) for node in NODES for size in SIZES for mode in MODES]
removing = [redis.Redis(*node, single_connection_client=True) for node in NODES]
for client in removing:
    client.execute_command("READONLY")
end = time.monotonic() + SECONDS
failed = []


def guarded(work, *arguments):
    try:
        work(*arguments)
    except Exception as error:  # told by the main thread
        failed.append(error)


threads = [threading.Thread(target=guarded, args=(cache.run, end)) for cache in caches]
threads += [threading.Thread(target=guarded, args=(change, end, clients)) for clients in (removing, [])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed

sql("UPDATE users SET city = 'The last' WHERE id <= 300")
city = lambda value: json.loads(value)["city"] if value else "The last"  # an absence is kept too
until("the last change to be read", lambda: all(city(removing[0].get(key)) == "The last" for key in KEYS))
held = 0
for cache in caches:
    cache.ask("PING")  # what was pushed comes before its reply
    stale = {key: city(value) for key, value in cache.values.items() if city(value) != "The last"}
    assert not stale, f"pipelines of {cache.size}, {cache.mode}: kept for ever {stale}"
    assert cache.reads > 100 and cache.pushes > 10, (cache.size, cache.mode, cache.reads, cache.pushes)
    cache.read_what_is_missing()
    held += len(cache.values)
assert held > len(caches), "nothing is kept at all"
print(f"{sum(cache.reads for cache in caches)} reads, {sum(cache.pushes for cache in caches)} pushes, nothing stale")
