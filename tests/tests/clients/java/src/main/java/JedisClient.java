import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import redis.clients.jedis.ClusterPipeline;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.csc.Cache;
import redis.clients.jedis.csc.CacheConfig;
import redis.clients.jedis.csc.CacheFactory;

/** Jedis: a cluster client, reads, a pipeline, and its client-side cache. */
public final class JedisClient {
    public static void main(String[] arguments) throws Exception {
        System.out.println("jedis " + Rows.version(JedisCluster.class, "redis.clients", "jedis"));
        Set<HostAndPort> nodes = Rows.nodes().stream().map(HostAndPort::from).collect(Collectors.toSet());
        try (JedisCluster cluster = new JedisCluster(nodes)) {
            Rows.read(cluster::get, 17, "Javaville");
            List<Response<String>> piped = new ArrayList<>();
            try (ClusterPipeline pipeline = cluster.pipelined()) {
                for (int id = 1; id < 60; id++) {
                    piped.add(pipeline.get("user:" + id));
                }
                pipeline.sync();
            }
            for (int id = 1; id < 60; id++) {
                Rows.is(piped.get(id - 1).get(), id);
            }
        }
        Cache cache = CacheFactory.getCache(CacheConfig.builder().maxSize(100).build());
        DefaultJedisClientConfig three = DefaultJedisClientConfig.builder().protocol(RedisProtocol.RESP3).build();
        try (JedisCluster cluster = new JedisCluster(nodes, three, cache)) {
            Rows.until(() -> cluster.get("user:18") != null && cache.getStats().getHitCount() > 0, "a value is kept by the client");
            Rows.change(cluster::get, 18, "Pushed to Jedis");
        }
    }
}
