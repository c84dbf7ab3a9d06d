// ioredis: one node that fetches foreign keys, and Cluster.
const { execFileSync } = require("node:child_process");
const Redis = require(process.env.CLIENTS + "/node/node_modules/ioredis");
const version = require(process.env.CLIENTS + "/node/node_modules/ioredis/package.json").version;
const nodes = process.env.NODES.split(",").map((node) => {
  const at = node.lastIndexOf(":");
  return { host: node.slice(0, at), port: Number(node.slice(at + 1)) };
});
const check = (right, what) => {
  if (!right) throw new Error(what);
};

async function main() {
  console.log("ioredis", version);
  const one = new Redis(nodes[0]);
  await one.call("READONLY");
  check(JSON.parse(await one.get("user:42")).id === 42, "GET");
  check((await one.get("user:424242")) === null, "an absent row is null");
  const piped = await one.pipeline().get("user:1").get("user:2").exec();
  check(piped.every(([error, value]) => !error && value), "a pipeline");
  one.disconnect();

  const cluster = new Redis.Cluster(nodes);
  for (let id = 1; id < 60; id++) check(JSON.parse(await cluster.get(`user:${id}`)).id === id, `user:${id}`);
  execFileSync(process.env.SQL, ["UPDATE users SET city = 'Nodeville' WHERE id = 11"]);
  const end = Date.now() + 30000;
  while (JSON.parse(await cluster.get("user:11")).city !== "Nodeville") check(Date.now() < end, "the change in time");
  cluster.disconnect();
}
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
