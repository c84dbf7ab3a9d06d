#!/bin/sh
# redis-cli, alone and with -c, which follows MOVED.
set -eu
redis-cli --version
first=${NODES%%,*}
port=${first##*:}
cli() { redis-cli -c -p "$port" "$@"; }
for id in 1 2 3 4 5 6 7 8 9; do
    cli GET "user:$id" | grep -q "\"id\":$id," || { echo "user:$id" >&2; exit 1; }
done
[ -z "$(cli GET user:424242)" ]
cli CLUSTER INFO | grep -q cluster_state:ok
cli INFO server | grep -q redis_version
cli -3 PING | grep -q PONG
cli FLUSHALL | grep -q "unknown command"
"$SQL" "UPDATE users SET city = 'Cliville' WHERE id = 5" >/dev/null
n=0
until cli GET user:5 | grep -q Cliville; do
    n=$((n + 1))
    [ $n -lt 300 ] || { echo "the change was not read in time" >&2; exit 1; }
done
