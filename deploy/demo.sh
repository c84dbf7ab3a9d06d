#!/usr/bin/env bash
# Brings the whole stack up with MySQL, Canal, Kafka, etcd, three nodes and the sync service, changes a row in MySQL and shows the
# invalidation. As root on Debian it installs what is missing and builds every image from Debian and Maven packages.
#
#   deploy/demo.sh               up, demo; the stack stays up
#   deploy/demo.sh --small       the small stack instead: MySQL, etcd, one node, and the sync service, which reads the binlog itself
#   deploy/demo.sh [--small] --down         ends the stack and deletes its data
#   FRESHLINE_OFFICIAL=1 deploy/demo.sh     official images from a registry, Grafana included
#   FRESHLINE_PROFILE=dev deploy/demo.sh    quicker to build
set -euo pipefail
cd "$(dirname "$0")/.."
small=0 down=0
for argument in "$@"; do
    case $argument in
        --small) small=1 ;;
        --down) down=1 ;;
        *) sed -n '2,9s/^# \{0,1\}//p' deploy/demo.sh >&2; exit 2 ;;
    esac
done

deploy/images/engine.sh
deploy/images/compose.sh
# shellcheck source=stack.sh
. deploy/stack.sh
if [ $down = 1 ]; then
    exec "${compose[@]}" down --volumes --remove-orphans
fi
[ -z "$(docker ps -q --filter "label=com.docker.compose.project=$other")" ] ||
    fail "the other stack is up, and both take the same ports: end it by deploy/demo.sh$([ $small = 1 ] || echo ' --small') --down"

if [ "${FRESHLINE_OFFICIAL:-0}" != 1 ]; then
    say "Local images"
    deploy/images/build.sh "${images[@]}"
fi
say "Freshline's image"
deploy/build.sh --profile "${FRESHLINE_PROFILE:-release}"

say "Starting the servers"
first=(mysql etcd)
[ $small = 1 ] || first+=(kafka)
"${compose[@]}" up -d "${first[@]}"
mysql_ready
mysql <deploy/config/shop.sql
if [ $small = 0 ]; then
    # The topic before those who read it; Kafka's tool has the same name in the local and in the official image.
    for _ in $(seq 60); do
        "${compose[@]}" exec -T kafka sh -c 'PATH=$PATH:/opt/kafka/bin kafka-topics.sh --bootstrap-server kafka:9092 \
            --create --if-not-exists --topic shop --partitions 3' >/dev/null 2>&1 && break || sleep 0.5
    done
fi
say "Starting ${#nodes[@]} cache node(s), the sync service$([ $small = 1 ] || echo ', Canal, Prometheus')"
"${compose[@]}" up -d
ready "${nodes[@]}" 7402

# Changes may have been on their way before somebody listened (Canal starts at the end of the binlog some time after its process): change a
# row until a node sees it.
say "Waiting for the first change to come through"
for i in $(seq 120); do
    value 7401 >/dev/null
    rename "warming up $i"
    sleep 0.5
    value 7401 | grep -q "warming up $i" && break
done
value 7401 | grep -q "warming up" || fail "no change came through; see: docker compose -p $project logs"
rename Dora
fresh Dora

say "user:42 from every node (the owner filled it once)"
show
say "UPDATE shop.users SET name = 'Dora the Explorer' WHERE id = 42"
started=$(now)
rename "Dora the Explorer"
committed=$(now)
fresh "Dora the Explorer"
everywhere=$(now)
show
say "Fresh on every node $((everywhere - committed)) ms after the mysql client returned (which took $((committed - started)) ms)"
"${compose[@]}" exec -T node-1 freshline explain user:42
cat <<TEXT

Try:   docker compose -p $project exec mysql mysql -uroot -prootpw shop
       docker compose -p $project exec node-1 freshline shell
       curl http://127.0.0.1:7401/v1/keys/user:42:orders
       redis-cli -c -p ${redis_ports[0]} GET user:42
$([ $small = 1 ] || echo '       Prometheus: http://127.0.0.1:9090')
End it: deploy/demo.sh$([ $small = 0 ] || echo ' --small') --down
TEXT
