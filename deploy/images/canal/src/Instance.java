package freshline.canal;

import com.alibaba.otter.canal.common.alarm.LogAlarmHandler;
import com.alibaba.otter.canal.filter.aviater.AviaterRegexFilter;
import com.alibaba.otter.canal.instance.core.AbstractCanalInstance;
import com.alibaba.otter.canal.instance.core.CanalMQConfig;
import com.alibaba.otter.canal.meta.FileMixedMetaManager;
import com.alibaba.otter.canal.parse.ha.HeartBeatHAController;
import com.alibaba.otter.canal.parse.index.FailbackLogPositionManager;
import com.alibaba.otter.canal.parse.index.MemoryLogPositionManager;
import com.alibaba.otter.canal.parse.index.MetaLogPositionManager;
import com.alibaba.otter.canal.parse.support.AuthenticationInfo;
import com.alibaba.otter.canal.protocol.position.EntryPosition;
import com.alibaba.otter.canal.sink.entry.EntryEventSink;
import com.alibaba.otter.canal.store.memory.MemoryEventStoreWithBuffer;
import com.alibaba.otter.canal.store.model.BatchMode;
import java.net.InetSocketAddress;
import java.nio.file.Path;

/** One destination: the parts that the stock launcher would wire from its Spring files. */
final class Instance extends AbstractCanalInstance {
    Instance(String destination, Settings settings, Path data, Path ready) {
        this.destination = destination;
        alarmHandler = new LogAlarmHandler();

        FileMixedMetaManager meta = new FileMixedMetaManager();
        meta.setDataDir(data.toString());
        meta.setPeriod(settings.number("canal.file.flush.period"));
        metaManager = meta;

        MemoryEventStoreWithBuffer store = new MemoryEventStoreWithBuffer(BatchMode.MEMSIZE);
        store.setBufferSize(settings.number("canal.instance.memory.buffer.size"));
        store.setRaw(false); // flat messages are built from decoded rows
        eventStore = store;

        EntryEventSink sink = new EntryEventSink();
        sink.setEventStore(store);
        eventSink = sink;

        eventParser = parser(settings, ready, sink, meta);
        mqConfig = mqConfig(settings);
    }

    private Parser parser(Settings settings, Path ready, EntryEventSink sink, FileMixedMetaManager meta) {
        Parser parser = new Parser("earliest".equals(System.getenv("CANAL_START")), ready);
        parser.setDestination(destination);
        parser.setSlaveId(settings.number("canal.instance.mysql.slaveId"));
        parser.setMasterInfo(new AuthenticationInfo(address(settings.get("canal.instance.master.address")),
            settings.get("canal.instance.dbUsername"), settings.get("canal.instance.dbPassword"), ""));
        parser.setMasterPosition(masterPosition(settings));
        parser.setConnectionCharset(settings.get("canal.instance.connectionCharset"));
        parser.setEventFilter(new AviaterRegexFilter(settings.get("canal.instance.filter.regex")));
        if (settings.has("canal.instance.filter.black.regex")) {
            parser.setEventBlackFilter(new AviaterRegexFilter(settings.get("canal.instance.filter.black.regex"), false));
        }
        parser.setFilterQueryDml(settings.flag("canal.instance.filter.query.dml"));
        parser.setFilterQueryDcl(settings.flag("canal.instance.filter.query.dcl"));
        parser.setFilterQueryDdl(settings.flag("canal.instance.filter.query.ddl"));
        parser.setIsGTIDMode(settings.flag("canal.instance.gtidon"));
        parser.setParallel(settings.flag("canal.instance.parser.parallel"));
        parser.setParallelThreadSize(2);
        parser.setDetectingEnable(false);
        parser.setEnableTsdb(false);
        parser.setHaController(new HeartBeatHAController());
        parser.setEventSink(sink);
        parser.setAlarmHandler(alarmHandler);
        parser.setLogPositionManager(
            new FailbackLogPositionManager(new MemoryLogPositionManager(), new MetaLogPositionManager(meta)));
        return parser;
    }

    private static InetSocketAddress address(String text) {
        int colon = text.lastIndexOf(':');
        if (colon < 1) {
            throw new IllegalArgumentException("canal.instance.master.address is \"" + text + "\", not host:port");
        }
        return new InetSocketAddress(text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    }

    private static EntryPosition masterPosition(Settings settings) {
        EntryPosition position = new EntryPosition();
        if (settings.has("canal.instance.master.journal.name")) {
            position.setJournalName(settings.get("canal.instance.master.journal.name"));
            position.setPosition(settings.has("canal.instance.master.position")
                ? Long.parseLong(settings.get("canal.instance.master.position")) : 4L);
        }
        if (settings.has("canal.instance.master.gtid")) {
            position.setGtid(settings.get("canal.instance.master.gtid"));
        }
        return position;
    }

    private static CanalMQConfig mqConfig(Settings settings) {
        CanalMQConfig mq = new CanalMQConfig();
        mq.setTopic(settings.get("canal.mq.topic"));
        mq.setPartition(settings.number("canal.mq.partition"));
        if (settings.has("canal.mq.partitionHash")) {
            mq.setPartitionHash(settings.get("canal.mq.partitionHash"));
            mq.setPartitionsNum(settings.has("canal.mq.partitionsNum") ? settings.number("canal.mq.partitionsNum") : 3);
        }
        if (settings.has("canal.mq.dynamicTopic")) {
            mq.setDynamicTopic(settings.get("canal.mq.dynamicTopic"));
        }
        if (settings.has("canal.mq.dynamicTopicPartitionNum")) {
            mq.setDynamicTopicPartitionNum(settings.get("canal.mq.dynamicTopicPartitionNum"));
        }
        return mq;
    }
}
