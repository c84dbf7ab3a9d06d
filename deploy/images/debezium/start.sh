#!/bin/bash
# Runs one Connect worker. Connectors are made by its REST API: POST /connectors on port 8083.
#
#   CONNECT_BOOTSTRAP_SERVERS  kafka:9092
#   CONNECT_<NAME>             any other setting of the worker: CONNECT_OFFSET_FLUSH_INTERVAL_MS is offset.flush.interval.ms
#   CONNECT_HEAP_OPTS          -Xms96m -Xmx384m
set -euo pipefail

conf=/var/lib/connect/worker.properties
cp /opt/connect/worker.properties "$conf"
while IFS='=' read -r -d '' name value; do
    case $name in
        CONNECT_HEAP_OPTS) ;;
        CONNECT_*) key=${name#CONNECT_} && key=${key,,} && echo "${key//_/.}=$value" >>"$conf" ;;
    esac
done < <(env -0)

exec java ${CONNECT_HEAP_OPTS:--Xms96m -Xmx384m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.timezone=UTC \
    -Djava.net.preferIPv4Stack=true -Dorg.slf4j.simpleLogger.logFile=System.out \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.io.debezium=info \
    -Dorg.slf4j.simpleLogger.log.org.apache.kafka.connect.runtime.rest.RestServer=info \
    -cp '/opt/connect/lib/*' org.apache.kafka.connect.cli.ConnectStandalone "$conf"
