#!/bin/sh
# redis-cli's own tools, and redis_exporter: what they ask a node for, they are answered.
set -eu
first=${NODES%%,*}
host=${first%:*} port=${first##*:}
work=$(mktemp -d)
exporter=
trap 'rm -rf "$work"; [ -z "$exporter" ] || kill "$exporter"' EXIT
fail() {
    echo "$1" >&2
    [ ! -f "$work/out" ] || tail -n 30 "$work/out" >&2
    exit 1
}
tool() { # WANTED ARGUMENTS...: a run of redis-cli that ends well and says this
    wanted=$1
    shift
    redis-cli "$@" >"$work/out" 2>&1 || fail "redis-cli $*: exit $?"
    grep -q "$wanted" "$work/out" || fail "redis-cli $*: does not say $wanted"
}
for id in 1 2 3 4 5 6 7 8 9; do redis-cli -c -h "$host" -p "$port" GET "user:$id" >/dev/null; done
tool "Biggest string found .*user:[0-9]*.* has [0-9]* bytes" -h "$host" -p "$port" --bigkeys
tool "Biggest string found .*user:[0-9]*.* has [0-9]* bytes" -h "$host" -p "$port" --memkeys
tool "OK. [1-9][0-9]* keys in 3 masters" --cluster info "$first"
tool "All 16384 slots covered" --cluster check "$first"
# It runs until it is ended: its second line has numbers.
{ timeout 3 stdbuf -oL redis-cli -h "$host" -p "$port" -i 1 --stat || true; } >"$work/out"
grep -Eq "^[1-9][0-9]* +[0-9.]+[KMG]? +[1-9][0-9]* +0 +[1-9]" "$work/out" || fail "redis-cli --stat"

exporter_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$CLIENTS/exporter/usr/bin/prometheus-redis-exporter" -redis.addr "redis://$first" -web.listen-address "127.0.0.1:$exporter_port" >"$work/out" 2>&1 &
exporter=$!
metrics() { python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())' "http://127.0.0.1:$exporter_port/metrics"; }
n=0
until metrics >"$work/metrics" 2>/dev/null; do
    n=$((n + 1))
    [ $n -lt 300 ] && kill -0 "$exporter" || fail "redis_exporter serves"
    sleep 0.1
done
for wanted in "redis_up 1" "redis_cluster_state 1" "redis_blocked_clients 0" 'redis_exporter_last_scrape_error{err=""} 0' 'redis_commands_total{cmd="get"} [1-9]' \
    'redis_db_keys{db="db0"} [1-9]' "redis_memory_max_bytes [1-9]" "redis_config_maxclients [1-9]"; do
    grep -q "^$wanted" "$work/metrics" || { cp "$work/metrics" "$work/out"; fail "redis_exporter does not say $wanted"; }
done
