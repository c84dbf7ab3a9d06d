package freshline.canal;

import com.alibaba.otter.canal.connector.kafka.producer.CanalKafkaProducer;
import com.alibaba.otter.canal.server.embedded.CanalServerWithEmbedded;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.kafka.common.KafkaException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Runs one Canal destination into Kafka until it is told to stop. */
public final class Main {
    private static final Logger LOG = LoggerFactory.getLogger("freshline.canal");

    public static void main(String[] args) throws Exception {
        Path home = Path.of(args.length > 0 ? args[0] : "/canal");
        Path ready = Path.of("/tmp/canal-ready");
        Files.deleteIfExists(ready);
        Settings settings = Settings.read(home.resolve("conf"));
        String destination = settings.get("canal.destinations");
        if (destination.contains(",")) {
            throw new IllegalArgumentException("canal.destinations is \"" + destination + "\"; this image runs one");
        }

        CanalKafkaProducer producer = connect(settings);
        CanalServerWithEmbedded server = CanalServerWithEmbedded.instance();
        Path data = home.resolve("data");
        server.setCanalInstanceGenerator(name -> new Instance(name, settings, data, ready));
        server.start();
        server.start(destination);

        Pump pump = new Pump(server, producer, destination, settings);
        Thread thread = new Thread(pump, "pump");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            pump.stop();
            try {
                thread.join(3000);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            producer.stop();
            server.stop(destination);
            server.stop();
        }, "stop"));
        thread.start();
        thread.join();
    }

    /** Waits for a name that doesn't resolve yet: in a compose network Kafka may come up after us. */
    private static CanalKafkaProducer connect(Settings settings) throws InterruptedException {
        while (true) {
            try {
                CanalKafkaProducer producer = new CanalKafkaProducer();
                producer.init(settings.all());
                return producer;
            } catch (KafkaException e) {
                LOG.warn("kafka at {} can't be used yet: {}", settings.get("kafka.bootstrap.servers"), cause(e));
                Thread.sleep(1000);
            }
        }
    }

    private static String cause(Throwable e) {
        return e.getCause() == null ? e.getMessage() : e.getCause().getMessage();
    }

    private Main() {}
}
