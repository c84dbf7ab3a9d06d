#!/usr/bin/env bash
# Proves a deployment: brings it up by demo.sh, reads by the Redis protocol too, changes rows while the sync service is down, while MySQL
# restarts and after the whole stack was stopped, asks whether every metric of the dashboard and the alerts is there, and ends the stack.
#
#   deploy/check.sh              the large stack
#   deploy/check.sh --small      the small one
#   FRESHLINE_KEEP=1             leaves it up
set -euo pipefail
cd "$(dirname "$0")/.."
small=0
case ${1:-} in
    '') ;;
    --small) small=1 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' deploy/check.sh >&2; exit 2 ;;
esac
which=()
[ $small = 0 ] || which=(--small)
# shellcheck source=stack.sh
. deploy/stack.sh

end() {
    local status=$?
    [ $status = 0 ] || "${compose[@]}" logs --tail 40 sync node-1 mysql >&2 || true
    [ "${FRESHLINE_KEEP:-0}" = 1 ] || deploy/demo.sh "${which[@]}" --down >/dev/null 2>&1 || true
    [ $status = 0 ] && echo "all is well" || echo "deploy/check.sh failed" >&2
    exit $status
}
trap end EXIT
deploy/demo.sh "${which[@]}" --down >/dev/null 2>&1
deploy/demo.sh "${which[@]}"

cached() { # waits until every node answers from memory; what is read within a removal's quarantine is not kept
    local port
    for port in "${nodes[@]}"; do
        for _ in $(seq 100); do
            curl -fsS -m 5 -o /dev/null -D - "http://127.0.0.1:$port/v1/keys/user:42" 2>/dev/null |
                grep -qi '^x-freshline-outcome: hit' && continue 2 || sleep 0.1
        done
        fail "the node on $port never answers from memory"
    done
}
changed() { # NAME: a row that is cached is changed, and every node must follow
    cached
    rename "$1"
    local committed
    committed=$(now)
    fresh "$1"
    echo "  fresh on every node after $(($(now) - committed)) ms"
}
redis() { # PORT: user:42 by the Redis protocol; READONLY has a node fetch what others hold
    local line lines=()
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'READONLY\r\nGET user:42\r\n' >&3
    for _ in 1 2 3; do
        IFS= read -r -t 5 line <&3 || break
        lines+=("${line%$'\r'}")
    done
    exec 3>&-
    echo "${lines[2]:-${lines[*]:-}}"
}
gaps() { curl -fsS http://127.0.0.1:7402/metrics | awk '/^freshline_sync_gaps_total/ { n += $2 } END { print n + 0 }'; }
names() { curl -fsS "http://127.0.0.1:$1/metrics" | sed -n 's/^\(freshline_[a-z0-9_]*\).*/\1/p' | sort -u; }

say "Redis clients"
for port in "${redis_ports[@]}"; do
    got=$(redis "$port")
    echo "  node on $port: $got"
    grep -qF '"Dora the Explorer"' <<<"$got" || fail "the Redis port $port does not serve the value"
done

say "A change while the sync service is down"
before=$(gaps)
cached
"${compose[@]}" stop sync 2>/dev/null
rename "while sync was down"
"${compose[@]}" start sync 2>/dev/null
started=$(now)
fresh "while sync was down"
echo "  fresh on every node $(($(now) - started)) ms after its start"
ready 7402
[ "$(gaps)" = 0 ] || fail "the sync service counts gaps after a restart, where it had a position: $(gaps), $before before"

say "MySQL restarts"
cached
started=$(now)
"${compose[@]}" restart mysql 2>/dev/null
mysql_ready
echo "  it answers again after $(($(now) - started)) ms"
# The nodes' connections come back by themselves.
changed "after MySQL"
[ "$(gaps)" = 0 ] || fail "the sync service counts gaps after MySQL's restart: $(gaps)"

say "The whole stack stops and comes back with its data"
started=$(now)
"${compose[@]}" down 2>/dev/null
echo "  stopped in $(($(now) - started)) ms"
"${compose[@]}" up -d 2>/dev/null
mysql_ready
ready "${nodes[@]}" 7402
fresh "after MySQL"
changed "after all"

say "Metrics of the dashboard and the alerts"
wanted=$(grep -oh 'freshline_[a-z0-9_]*' deploy/grafana/dashboards/*.json deploy/config/alerts.yml | sort -u)
# A comparison with the database is off unless [sync.verify] says otherwise, and Kafka knows no binlog.
elsewhere='^freshline_verify_'
[ $small = 1 ] || elsewhere+='\|^freshline_sync_binlog_'
# Lags are told once the log was asked for its ends.
for _ in $(seq 100); do
    served=$(for port in "${nodes[@]}" 7402; do names "$port"; done | sort -u)
    missing=$(comm -23 <(echo "$wanted") <(echo "$served") | grep -v "$elsewhere" || true)
    [ -n "$missing" ] || break
    sleep 0.2
done
[ -z "$missing" ] || fail "neither node nor sync service serves: $missing"
echo "  all $(wc -l <<<"$wanted") are served"
if [ $small = 0 ]; then
    python3 deploy/queries.py http://127.0.0.1:9090 deploy/grafana/dashboards/*.json
fi
