package freshline.canal;

import com.alibaba.otter.canal.parse.driver.mysql.packets.server.ResultSetPacket;
import com.alibaba.otter.canal.parse.exception.CanalParseException;
import com.alibaba.otter.canal.parse.inbound.ErosaConnection;
import com.alibaba.otter.canal.parse.inbound.mysql.MysqlConnection;
import com.alibaba.otter.canal.parse.inbound.mysql.MysqlEventParser;
import com.alibaba.otter.canal.protocol.position.EntryPosition;
import com.alibaba.otter.canal.protocol.position.LogPosition;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Canal's parser, with a start position that MySQL 8.4 and later can answer for: they no longer know
 * {@code SHOW MASTER STATUS}, which Canal before 1.1.8 asks. It also says, once, that every change from here on
 * will be delivered.
 */
final class Parser extends MysqlEventParser {
    private static final Logger LOG = LoggerFactory.getLogger("freshline.canal");

    private final boolean earliest;
    private final Path ready;

    Parser(boolean earliest, Path ready) {
        this.earliest = earliest;
        this.ready = ready;
    }

    /** Canal sleeps for 10 to 20 s after a lost connection; a test that restarts MySQL shouldn't wait for that. */
    @Override
    public void start() {
        super.start();
        Thread parsing = parseThread;
        Thread waker = new Thread(() -> {
            while (parsing.isAlive()) {
                try {
                    Thread.sleep(500);
                } catch (InterruptedException e) {
                    return;
                }
                StackTraceElement[] stack = parsing.getStackTrace();
                if (stack.length > 1 && stack[0].getMethodName().equals("sleep")
                    && stack[1].getClassName().contains(".AbstractEventParser")) {
                    parsing.interrupt();
                }
            }
        }, "waker");
        waker.setDaemon(true);
        waker.start();
    }

    @Override
    protected EntryPosition findStartPosition(ErosaConnection connection) throws IOException {
        EntryPosition found = super.findStartPosition(connection);
        if (found != null) {
            LOG.info("canal is following {}:{}", found.getJournalName(), found.getPosition());
            Files.writeString(ready, found.getJournalName() + ":" + found.getPosition() + "\n");
        }
        return found;
    }

    @Override
    protected EntryPosition findStartPositionInternal(ErosaConnection connection) {
        LogPosition stored = logPositionManager.getLatestIndexBy(destination);
        if (stored != null) {
            // Canal would compare addresses and search by time if a restarted server got a new one: we have one server.
            return stored.getPostion();
        }
        if (masterPosition != null && masterPosition.getJournalName() != null) {
            return masterPosition;
        }
        MysqlConnection mysql = (MysqlConnection) connection;
        try {
            return earliest ? first(mysql) : last(mysql);
        } catch (IOException e) {
            throw new CanalParseException("can't tell where to start in the binlog", e);
        }
    }

    private static EntryPosition first(MysqlConnection mysql) throws IOException {
        List<String> row = mysql.query("SHOW BINARY LOGS").getFieldValues();
        if (row.isEmpty()) {
            throw new IOException("the server writes no binlog");
        }
        return new EntryPosition(row.get(0), 4L);
    }

    private static EntryPosition last(MysqlConnection mysql) throws IOException {
        ResultSetPacket status;
        try {
            status = mysql.query("SHOW BINARY LOG STATUS");
        } catch (IOException olderServer) {
            status = mysql.query("SHOW MASTER STATUS");
        }
        List<String> row = status.getFieldValues();
        if (row.size() < 2) {
            throw new IOException("the server writes no binlog, or the user lacks REPLICATION CLIENT");
        }
        EntryPosition position = new EntryPosition(row.get(0), Long.valueOf(row.get(1)));
        if (row.size() > 4) {
            position.setGtid(row.get(4));
        }
        return position;
    }
}
