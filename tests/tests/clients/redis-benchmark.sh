#!/bin/sh
# redis-benchmark, with and without pipelining: every request must be answered, and none with an error (-e prints them).
set -eu
redis-benchmark --version
first=${NODES%%,*}
port=${first##*:}
# A key that the first node owns and has in memory, so that it answers by itself: TTL asks this node alone.
id=1
while redis-cli -p "$port" GET "user:$id" >/dev/null && [ "$(redis-cli -p "$port" TTL "user:$id")" -le 0 ]; do id=$((id + 1)); done
for pipeline in 1 16; do
    out=$(redis-benchmark -p "$port" -n 20000 -c 20 -P "$pipeline" -e --csv GET "user:$id")
    echo "$out" | grep -q MOVED && { echo "$out" >&2; exit 1; }
    echo "$out" | tail -1
done
