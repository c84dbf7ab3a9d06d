"""coredis: a cluster client, its pipelines, which are transactions by default, and its client-side cache."""
import asyncio
import importlib.metadata
import json
import time

import coredis
from common import NODES, sql
from coredis.connection import TCPLocation
from coredis.patterns.cache import LRUCache

print("coredis", importlib.metadata.version("coredis"))
LOCATIONS = [TCPLocation(host, port) for host, port in NODES]


async def change(client, number, city):
    sql(f"UPDATE users SET city = '{city}' WHERE id = {number}")
    end = time.monotonic() + 30
    while json.loads(await client.get(f"user:{number}"))["city"] != city:
        assert time.monotonic() < end, "the change in time"
        await asyncio.sleep(0.002)


async def main():
    async with coredis.RedisCluster(startup_nodes=LOCATIONS, decode_responses=True) as cluster:
        for number in range(1, 60):
            assert json.loads(await cluster.get(f"user:{number}"))["id"] == number
        assert await cluster.get("user:424242") is None
        await change(cluster, 26, "Coreville")
        async with cluster.pipeline(transaction=False) as pipe:
            values = [pipe.get(f"user:{number}") for number in range(1, 30)]
        assert [json.loads(await value)["id"] for value in values] == list(range(1, 30))
        end = time.monotonic() + 30
        while True:  # what was read within a removal's quarantine is not kept, and has no time left
            async with cluster.pipeline(transaction=True) as pipe:
                value, left = pipe.get("user:26"), pipe.pttl("user:26")
            assert json.loads(await value)["id"] == 26
            if await left > 0:
                break
            assert time.monotonic() < end, "a key in memory has time left"

    cache = LRUCache()
    async with coredis.RedisCluster(startup_nodes=LOCATIONS, decode_responses=True, cache=cache) as cluster:
        end = time.monotonic() + 30
        while not any(cache.stats.hits.values()):
            assert time.monotonic() < end, "a value is kept by the client"
            await cluster.get("user:27")
            await asyncio.sleep(0.01)
        await change(cluster, 27, "Pushed by coredis")


asyncio.run(main())
