#!/bin/bash
# Kafka's command line tools, by the names they have in its distribution.
case $(basename "$0" .sh) in
    kafka-topics) class=org.apache.kafka.tools.TopicCommand ;;
    kafka-console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    kafka-consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    kafka-advertise) echo "${1:?usage: kafka-advertise <host:port>}" >/tmp/address && exec mv /tmp/address /var/lib/kafka/external-address ;;
    *) echo "unknown tool $0" >&2 && exit 2 ;;
esac
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
    -cp '/opt/kafka/lib/*' "$class" "$@"
