<?php
// phpredis: a cluster client; one node with credentials that nobody asked for, a pipeline, and a transaction.
require __DIR__ . '/rows.php';

echo 'phpredis ', phpversion('redis'), "\n";
$cluster = new RedisCluster(null, nodes());
reads(fn ($key) => $cluster->get($key), 24, 'Phpville');
is($cluster->mget(['user:1', 'user:2', 'user:3'])[2], 3);

[$host, $port] = explode(':', nodes()[0]);
$one = new Redis();
$one->connect($host, (int) $port);
check($one->auth(['default', 'any']), 'AUTH');
check($one->rawCommand('READONLY') === true, 'READONLY');
$pipe = $one->multi(Redis::PIPELINE);
for ($id = 1; $id < 30; $id++) {
    $pipe->get("user:$id");
}
foreach ($pipe->exec() as $at => $value) {
    is($value, $at + 1);
}
$both = $one->multi()->get('user:1')->get('user:2')->exec();
is($both[0], 1);
is($both[1], 2);
