import org.redisson.Redisson;
import org.redisson.api.BatchResult;
import org.redisson.api.RBatch;
import org.redisson.api.RedissonClient;
import org.redisson.client.codec.StringCodec;
import org.redisson.config.Config;

/** Redisson: a cluster client that reads; what it keeps on the client's side are its own structures, of commands that a node does not have. */
public final class RedissonReads {
    public static void main(String[] arguments) throws Exception {
        System.out.println("redisson " + Rows.version(Redisson.class, "org.redisson", "redisson"));
        Config config = new Config();
        config.useClusterServers().addNodeAddress(Rows.nodes().stream().map(node -> "redis://" + node).toArray(String[]::new));
        config.setCodec(StringCodec.INSTANCE);
        RedissonClient client = Redisson.create(config);
        Rows.read(key -> client.<String>getBucket(key).get(), 29, "Redissonville");
        RBatch batch = client.createBatch();
        for (int id = 1; id < 60; id++) {
            batch.<String>getBucket("user:" + id).getAsync();
        }
        BatchResult<?> replies = batch.execute();
        for (int id = 1; id < 60; id++) {
            Rows.is((String) replies.getResponses().get(id - 1), id);
        }
        Rows.check(client.getBuckets().get("user:1", "user:2", "user:3").size() == 3, "MGET over nodes");
        client.shutdown();
    }
}
