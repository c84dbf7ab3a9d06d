#!/usr/bin/env bash
# Brings the whole stack up with MySQL, Canal, Kafka, etcd, three nodes and the sync service, changes a row in MySQL and shows the
# invalidation. As root on Debian it installs what is missing and builds every image from Debian and Maven packages.
#
#   deploy/demo.sh               up, demo; the stack stays up
#   deploy/demo.sh --down        ends the stack and deletes its data
#   FRESHLINE_OFFICIAL=1 deploy/demo.sh     official images from a registry, Grafana included
#   FRESHLINE_PROFILE=dev deploy/demo.sh    quicker to build
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

deploy/images/engine.sh
deploy/images/compose.sh
if [ "${FRESHLINE_OFFICIAL:-0}" = 1 ]; then
    compose=(docker compose --env-file deploy/official.env -f deploy/compose.yaml --profile grafana)
    export FRESHLINE_BASE_IMAGE=debian:bookworm-slim
else
    compose=(docker compose --env-file deploy/images/versions.env -f deploy/compose.yaml)
fi
if [ "${1:-}" = --down ]; then
    exec "${compose[@]}" down --volumes --remove-orphans
fi

if [ "${FRESHLINE_OFFICIAL:-0}" != 1 ]; then
    say "Local images"
    deploy/images/build.sh base mysql kafka canal etcd prometheus
fi
say "Freshline's image"
deploy/build.sh --profile "${FRESHLINE_PROFILE:-release}"

say "Starting MySQL, Kafka, etcd"
"${compose[@]}" up -d mysql kafka etcd
mysql() { "${compose[@]}" exec -T mysql mysql -h127.0.0.1 -uroot -prootpw "$@" 2>/dev/null; }
for _ in $(seq 120); do mysql -e 'SELECT 1' >/dev/null && break || sleep 0.5; done
mysql <deploy/config/shop.sql
# The topic before those who read it; Kafka's tool has the same name in the local and in the official image.
for _ in $(seq 60); do
    "${compose[@]}" exec -T kafka sh -c 'PATH=$PATH:/opt/kafka/bin kafka-topics.sh --bootstrap-server kafka:9092 \
        --create --if-not-exists --topic shop --partitions 3' >/dev/null 2>&1 && break || sleep 0.5
done
say "Starting Canal, three cache nodes, the sync service, Prometheus"
"${compose[@]}" up -d

ready() { curl -fsS -m 2 "http://127.0.0.1:$1/readyz" >/dev/null 2>&1; }
for port in 7401 7411 7421 7402; do
    for _ in $(seq 240); do ready $port && break || sleep 0.25; done
    ready $port || { echo "nothing is ready on port $port; see: docker compose -p freshline logs" >&2; exit 1; }
done

value() { curl -fsS -m 5 "http://127.0.0.1:$1/v1/keys/user:42" || true; }
show() { for port in 7401 7411 7421; do printf '  node on %s: %s\n' "$port" "$(value $port)"; done; }
now() { date +%s%3N; }

# Canal starts at the end of the binlog some time after its process: change a row until a node sees it.
say "Waiting for Canal"
for i in $(seq 120); do
    value 7401 >/dev/null
    mysql -e "UPDATE shop.users SET name = 'warming up $i' WHERE id = 42"
    sleep 0.5
    value 7401 | grep -q "warming up $i" && break
done
value 7401 | grep -q "warming up" || { echo "no change came through Canal; see: docker compose -p freshline logs canal sync" >&2; exit 1; }
mysql -e "UPDATE shop.users SET name = 'Dora' WHERE id = 42"
until value 7401 | grep -q '"Dora"'; do sleep 0.05; done

say "user:42 from every node (the owner filled it once)"
show
say "UPDATE shop.users SET name = 'Dora the Explorer' WHERE id = 42"
started=$(now)
mysql -e "UPDATE shop.users SET name = 'Dora the Explorer' WHERE id = 42"
committed=$(now)
for port in 7401 7411 7421; do
    until value $port | grep -q Explorer; do [ $(($(now) - started)) -lt 30000 ] || { echo "still stale after 30 s" >&2; exit 1; }; done
done
fresh=$(now)
show
say "Fresh on all three nodes $((fresh - committed)) ms after the mysql client returned (which took $((committed - started)) ms)"
curl -fsS http://127.0.0.1:7401/v1/explain/user:42 && echo
cat <<'TEXT'

Try:   docker compose -p freshline exec mysql mysql -uroot -prootpw shop
       curl http://127.0.0.1:7401/v1/keys/user:42:orders
       Prometheus: http://127.0.0.1:9090      end it: deploy/demo.sh --down
TEXT
