<?php
// Predis: a cluster client; one node, its pipeline, and its transactions.
require 'Predis/Autoloader.php';
require __DIR__ . '/rows.php';
Predis\Autoloader::register();

echo 'predis ', Predis\Client::VERSION, "\n";
$cluster = new Predis\Client(array_map(fn ($node) => "tcp://$node", nodes()), ['cluster' => 'redis']);
reads(fn ($key) => $cluster->get($key), 25, 'Predisville');

$one = new Predis\Client('tcp://' . nodes()[0]);
$one->executeRaw(['READONLY']);
$piped = $one->pipeline(function ($pipe) {
    for ($id = 1; $id < 30; $id++) {
        $pipe->get("user:$id");
    }
});
foreach ($piped as $at => $value) {
    is($value, $at + 1);
}
$both = $one->transaction()->get('user:1')->get('user:2')->execute();
is($both[0], 1);
is($both[1], 2);
