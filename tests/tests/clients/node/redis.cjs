// node-redis, of the major version that the first argument says: one node, cluster, pipelines, MULTI, and from 5 on its client-side cache.
const { execFileSync } = require("node:child_process");
const { setImmediate } = require("node:timers/promises");
const path = `${process.env.CLIENTS}/node/node_modules/redis${process.argv[2]}`;
const redis = require(path);
const major = Number(process.argv[2]);
const nodes = process.env.NODES.split(",").map((node) => `redis://${node}`);
const check = (right, what) => {
  if (!right) throw new Error(what);
};
const fails = (error) => {
  throw error;
};

async function change(get, id, city) {
  execFileSync(process.env.SQL, [`UPDATE users SET city = '${city}' WHERE id = ${id}`]);
  const end = Date.now() + 30000;
  while (JSON.parse(await get(`user:${id}`)).city !== city) {
    check(Date.now() < end, "the change in time");
    await setImmediate(); // answers of a cache let nothing else have its turn
  }
}

async function one() {
  const client = redis.createClient({ url: nodes[0] }).on("error", fails);
  await client.connect();
  await client.sendCommand(["READONLY"]);
  check(JSON.parse(await client.get("user:42")).id === 42, "GET");
  check((await client.get("user:424242")) === null, "an absent row is null");
  // Commands of one turn are one pipeline.
  const piped = await Promise.all([1, 2, 3].map((id) => client.get(`user:${id}`)));
  check(piped.every((value, at) => JSON.parse(value).id === at + 1), "a pipeline");
  const both = await client.multi().get("user:1").pTTL("user:2").exec();
  check(JSON.parse(both[0]).id === 1 && both.length === 2, "MULTI");
  await client.quit();
}

async function cluster() {
  const client = redis.createCluster({ rootNodes: nodes.map((url) => ({ url })) }).on("error", fails);
  await client.connect();
  for (let id = 1; id < 60; id++) check(JSON.parse(await client.get(`user:${id}`)).id === id, `user:${id}`);
  await change((key) => client.get(key), 30 + major, `Nodeville ${major}`);
  await client.quit();
}

async function caching() {
  const cache = new redis.BasicClientSideCache({ ttl: 0, maxEntries: 100 });
  const client = redis.createClient({ url: nodes[0], RESP: 3, clientSideCache: cache }).on("error", fails);
  await client.connect();
  // A key that this node keeps: it fetches those of others and keeps nothing of them.
  let id = 0;
  for (let held = -2; held < 0; held = await client.pTTL(`user:${id}`)) {
    check(++id < 60, "a node has keys");
    await client.get(`user:${id}`);
  }
  const end = Date.now() + 30000;
  while (cache.stats().hitCount < 3) {
    check(Date.now() < end, "a value is kept by the client");
    await client.get(`user:${id}`);
  }
  await change((key) => client.get(key), id, `Pushed ${major}`);
  await client.close();
}

async function main() {
  console.log("node-redis", require(`${path}/package.json`).version);
  await one();
  await cluster();
  if (major >= 5) await caching();
}
main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
