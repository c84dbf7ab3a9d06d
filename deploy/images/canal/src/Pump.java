package freshline.canal;

import com.alibaba.otter.canal.connector.core.producer.MQDestination;
import com.alibaba.otter.canal.connector.core.spi.CanalMQProducer;
import com.alibaba.otter.canal.connector.core.util.Callback;
import com.alibaba.otter.canal.instance.core.CanalMQConfig;
import com.alibaba.otter.canal.protocol.ClientIdentity;
import com.alibaba.otter.canal.protocol.Message;
import com.alibaba.otter.canal.server.embedded.CanalServerWithEmbedded;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Moves batches from Canal's store to its Kafka producer and acknowledges each once Kafka has it.
 *
 * The stock starter does the same, but sleeps for 100 ms whenever nothing was there; this one goes straight back to
 * waiting, for {@code canal.mq.canalGetTimeout} at a time, which bounds what a change waits here.
 */
final class Pump implements Runnable {
    private static final Logger LOG = LoggerFactory.getLogger("freshline.canal");
    private static final short CLIENT = 1001; // the id under which the stock starter keeps its position

    private final CanalServerWithEmbedded server;
    private final CanalMQProducer producer;
    private final String name;
    private final int batch;
    private final long wait;
    private volatile boolean running = true;

    Pump(CanalServerWithEmbedded server, CanalMQProducer producer, String name, Settings settings) {
        this.server = server;
        this.producer = producer;
        this.name = name;
        this.batch = settings.number("canal.mq.canalBatchSize");
        this.wait = Math.max(1, settings.number("canal.mq.canalGetTimeout"));
    }

    void stop() {
        running = false;
    }

    @Override
    public void run() {
        ClientIdentity client = new ClientIdentity(name, CLIENT, "");
        MQDestination destination = destination(server.getCanalInstances().get(name).getMqConfig());
        server.subscribe(client);
        while (running) {
            try {
                Message message = server.getWithoutAck(client, batch, wait, TimeUnit.MILLISECONDS);
                if (message.getId() != -1 && !message.getEntries().isEmpty()) {
                    producer.send(destination, message, acknowledge(client, message.getId()));
                }
            } catch (RuntimeException e) {
                if (running) {
                    LOG.warn("failed to move a batch, trying again: {}", e.toString());
                    pause();
                }
            }
        }
    }

    private Callback acknowledge(ClientIdentity client, long id) {
        return new Callback() {
            @Override
            public void commit() {
                server.ack(client, id);
            }

            @Override
            public void rollback() {
                LOG.warn("kafka didn't take batch {}, sending it again", id);
                server.rollback(client, id);
                pause();
            }
        };
    }

    private static MQDestination destination(CanalMQConfig mq) {
        MQDestination destination = new MQDestination();
        destination.setTopic(mq.getTopic());
        destination.setPartition(mq.getPartition());
        destination.setDynamicTopic(mq.getDynamicTopic());
        destination.setPartitionsNum(mq.getPartitionsNum());
        destination.setPartitionHash(mq.getPartitionHash());
        destination.setDynamicTopicPartitionNum(mq.getDynamicTopicPartitionNum());
        return destination;
    }

    private static void pause() {
        try {
            Thread.sleep(200);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
