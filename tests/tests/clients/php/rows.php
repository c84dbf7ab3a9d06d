<?php
// What both clients read, and how a row is changed.

function check(bool $right, string $what): void
{
    if (!$right) {
        throw new RuntimeException($what);
    }
}

/** Where the nodes are, as host:port. */
function nodes(): array
{
    return explode(',', getenv('NODES'));
}

function is(mixed $value, int $id): void
{
    check(is_string($value) && json_decode($value)->id === $id, "user:$id is " . var_export($value, true));
}

/** Reads rows, one that there is not, and one whose row changes meanwhile. */
function reads(callable $get, int $id, string $city): void
{
    for ($number = 1; $number < 60; $number++) {
        is($get("user:$number"), $number);
    }
    check(in_array($get('user:424242'), [false, null], true), 'an absent row is nothing');
    exec(escapeshellarg(getenv('SQL')) . ' ' . escapeshellarg("UPDATE users SET city = '$city' WHERE id = $id"), $output, $status);
    check($status === 0, 'the UPDATE');
    $end = microtime(true) + 30;
    while (!str_contains($get("user:$id"), $city)) {
        check(microtime(true) < $end, 'the change in time');
    }
}
