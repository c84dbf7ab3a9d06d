# What demo.sh and check.sh ask of a stack, the large one or the small one (small=1). Sourced, in the repository's folder.

if [ "${small:-0}" = 1 ]; then
    project=freshline-small file=deploy/compose.small.yaml other=freshline
    images=(base mysql etcd)
    nodes=(7401) redis_ports=(7403)
else
    project=freshline file=deploy/compose.yaml other=freshline-small
    images=(base mysql kafka canal etcd prometheus)
    nodes=(7401 7411 7421) redis_ports=(7403 7413 7423)
fi
compose=(docker compose --env-file deploy/images/versions.env -f "$file")
if [ "${FRESHLINE_OFFICIAL:-0}" = 1 ]; then
    compose=(docker compose --env-file deploy/official.env -f "$file" --profile grafana)
    export FRESHLINE_BASE_IMAGE=debian:bookworm-slim
fi

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { echo "$*" >&2; exit 1; }
now() { date +%s%3N; }

mysql() { "${compose[@]}" exec -T mysql mysql -h127.0.0.1 -uroot -prootpw "$@" 2>/dev/null; }
mysql_ready() {
    for _ in $(seq 240); do mysql -e 'SELECT 1' >/dev/null && return || sleep 0.25; done
    fail "MySQL does not answer; see: docker compose -p $project logs mysql"
}
rename() { mysql -e "UPDATE shop.users SET name = '$1' WHERE id = 42"; }

ready() { # PORT...: waits until a node or the sync service is ready
    local port
    for port in "$@"; do
        for _ in $(seq 240); do curl -fsS -m 2 "http://127.0.0.1:$port/readyz" >/dev/null 2>&1 && continue 2 || sleep 0.25; done
        fail "nothing is ready on port $port; see: docker compose -p $project logs"
    done
}

value() { curl -fsS -m 5 "http://127.0.0.1:$1/v1/keys/user:42" 2>/dev/null || true; }
show() { local port; for port in "${nodes[@]}"; do printf '  node on %s: %s\n' "$port" "$(value "$port")"; done; }
fresh() { # NAME: waits until every node answers with it
    local port started
    started=$(now)
    for port in "${nodes[@]}"; do
        until value "$port" | grep -qF "\"$1\""; do
            [ $(($(now) - started)) -lt 60000 ] || fail "the node on $port is still stale after 60 s: $(value "$port")"
        done
    done
}
