#!/bin/bash
# Configures and runs one Kafka node.
#
#   KAFKA_ADVERTISED_LISTENERS  PLAINTEXT://kafka:9092,EXTERNAL://127.0.0.1:9094: the whole list, if given
#   KAFKA_EXTERNAL_ADDRESS      127.0.0.1:9094: what clients outside the container network are told (port 9094)
#   KAFKA_ADVERTISE_LATER       1: wait until `docker exec <container> kafka-advertise <host:port>` names it
#   KAFKA_<NAME>                any other broker setting: KAFKA_NUM_PARTITIONS is num.partitions
#   KAFKA_HEAP_OPTS             -Xms96m -Xmx256m
set -euo pipefail

conf=/var/lib/kafka/server.properties
late=/var/lib/kafka/external-address
cp /opt/kafka/server.properties "$conf"

external=${KAFKA_EXTERNAL_ADDRESS:-127.0.0.1:9094}
if [ "${KAFKA_ADVERTISE_LATER:-0}" = 1 ]; then
    echo "kafka: waiting for kafka-advertise"
    until [ -s "$late" ]; do sleep 0.05; done
    external=$(cat "$late")
fi
: "${KAFKA_ADVERTISED_LISTENERS:=PLAINTEXT://${HOSTNAME}:9092,EXTERNAL://${external}}"
export KAFKA_ADVERTISED_LISTENERS

while IFS='=' read -r -d '' name value; do
    case $name in
        KAFKA_HEAP_OPTS | KAFKA_JVM_OPTS | KAFKA_EXTERNAL_ADDRESS | KAFKA_ADVERTISE_LATER) ;;
        KAFKA_*) key=${name#KAFKA_} && key=${key,,} && echo "${key//_/.}=$value" >>"$conf" ;;
    esac
done < <(env -0)

java=(java ${KAFKA_HEAP_OPTS:--Xms96m -Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
    -Djava.net.preferIPv4Stack=true -Dorg.slf4j.simpleLogger.logFile=System.out
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
    -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info
    -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.utils.AppInfoParser=off ${KAFKA_JVM_OPTS:-}
    -cp '/opt/kafka/lib/*')

# A volume or a restart brings its own storage along: format only what was never formatted.
if [ ! -f /var/lib/kafka/data/meta.properties ]; then
    "${java[@]}" -XX:SharedArchiveFile=/opt/kafka/format.jsa kafka.tools.StorageTool format \
        --cluster-id MkU3OEVBNTcwNTJENDM2Qk --config "$conf" >/dev/null
fi
exec "${java[@]}" -XX:SharedArchiveFile=/opt/kafka/kafka.jsa kafka.Kafka "$conf"
