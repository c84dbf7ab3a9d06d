package freshline.canal;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;

/**
 * Canal's own property names, from the lowest to the highest precedence: defaults, {@code conf/canal.properties},
 * {@code conf/<destination>/instance.properties}, environment variables with the property's dotted name (as the
 * official image takes them), and a short environment name for what nearly everyone sets.
 */
final class Settings {
    private static final String[] DEFAULTS = {
        "canal.destinations", "example",
        "canal.instance.master.address", "127.0.0.1:3306",
        "canal.instance.dbUsername", "canal",
        "canal.instance.dbPassword", "canal",
        "canal.instance.connectionCharset", "UTF-8",
        "canal.instance.mysql.slaveId", "1234",
        "canal.instance.filter.regex", ".*\\..*",
        "canal.instance.filter.black.regex", "(mysql|sys|information_schema|performance_schema)\\..*",
        "canal.instance.filter.query.dml", "false",
        "canal.instance.filter.query.dcl", "false",
        "canal.instance.filter.query.ddl", "false",
        "canal.instance.gtidon", "false",
        "canal.instance.parser.parallel", "true",
        "canal.instance.memory.buffer.size", "16384",
        "canal.file.flush.period", "200",
        "canal.mq.topic", "canal",
        "canal.mq.partition", "0",
        "canal.mq.flatMessage", "true",
        "canal.mq.canalBatchSize", "50",
        "canal.mq.canalGetTimeout", "2",
        "kafka.bootstrap.servers", "127.0.0.1:9092",
        "kafka.acks", "all",
        "kafka.linger.ms", "0",
        "kafka.retries", "3",
        "kafka.max.block.ms", "5000",
    };

    private static final Map<String, String> SHORT_NAMES = Map.ofEntries(
        Map.entry("CANAL_DESTINATION", "canal.destinations"),
        Map.entry("MYSQL_ADDRESS", "canal.instance.master.address"),
        Map.entry("MYSQL_USER", "canal.instance.dbUsername"),
        Map.entry("MYSQL_PASSWORD", "canal.instance.dbPassword"),
        Map.entry("KAFKA_BOOTSTRAP", "kafka.bootstrap.servers"),
        Map.entry("CANAL_TOPIC", "canal.mq.topic"),
        Map.entry("CANAL_DYNAMIC_TOPIC", "canal.mq.dynamicTopic"),
        Map.entry("CANAL_PARTITIONS", "canal.mq.partitionsNum"),
        Map.entry("CANAL_PARTITION_HASH", "canal.mq.partitionHash"),
        Map.entry("CANAL_FILTER", "canal.instance.filter.regex"),
        Map.entry("CANAL_GTID", "canal.instance.gtidon"));

    private final Properties properties = new Properties();

    static Settings read(Path conf) throws IOException {
        Settings settings = new Settings();
        for (int i = 0; i < DEFAULTS.length; i += 2) {
            settings.properties.setProperty(DEFAULTS[i], DEFAULTS[i + 1]);
        }
        settings.load(conf.resolve("canal.properties"));
        settings.environment();
        settings.load(conf.resolve(settings.get("canal.destinations")).resolve("instance.properties"));
        settings.environment();
        return settings;
    }

    private void load(Path file) throws IOException {
        if (Files.isRegularFile(file)) {
            try (Reader reader = Files.newBufferedReader(file)) {
                properties.load(reader);
            }
        }
    }

    private void environment() {
        System.getenv().forEach((name, value) -> {
            String key = SHORT_NAMES.getOrDefault(name, name);
            if ((key.startsWith("canal.") || key.startsWith("kafka.")) && !value.isEmpty()) {
                properties.setProperty(key, value);
            }
        });
    }

    /** The value, or the empty string. */
    String get(String key) {
        return properties.getProperty(key, "").trim();
    }

    boolean has(String key) {
        return !get(key).isEmpty();
    }

    int number(String key) {
        try {
            return Integer.parseInt(get(key));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(key + " is \"" + get(key) + "\", not a number");
        }
    }

    boolean flag(String key) {
        return Boolean.parseBoolean(get(key));
    }

    Properties all() {
        return properties;
    }
}
