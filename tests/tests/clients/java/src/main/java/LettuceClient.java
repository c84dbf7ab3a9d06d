import io.lettuce.core.LettuceFutures;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.TrackingArgs;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.support.caching.CacheAccessor;
import io.lettuce.core.support.caching.CacheFrontend;
import io.lettuce.core.support.caching.ClientSideCaching;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Lettuce: a cluster client, reads, a pipeline, credentials that nobody asked for, MULTI, and its client-side cache. */
public final class LettuceClient {
    public static void main(String[] arguments) throws Exception {
        System.out.println("lettuce " + Rows.version(RedisClient.class, "io.lettuce", "lettuce-core"));
        List<RedisURI> nodes = Rows.nodes().stream().map(node -> RedisURI.create("redis://" + node)).toList();
        RedisClusterClient cluster = RedisClusterClient.create(nodes);
        try (StatefulRedisClusterConnection<String, String> connection = cluster.connect()) {
            Rows.read(connection.sync()::get, 28, "Lettuceville");
            List<RedisFuture<String>> piped = new ArrayList<>();
            for (int id = 1; id < 60; id++) {
                piped.add(connection.async().get("user:" + id));
            }
            Rows.check(LettuceFutures.awaitAll(Duration.ofSeconds(30), piped.toArray(new RedisFuture[0])), "a pipeline");
            for (int id = 1; id < 60; id++) {
                Rows.is(piped.get(id - 1).get(), id);
            }
        }
        cluster.shutdown();

        RedisURI one = RedisURI.builder(nodes.get(0)).withAuthentication("default", "any").build();
        RedisClient client = RedisClient.create(one);
        try (StatefulRedisConnection<String, String> connection = client.connect()) {
            RedisCommands<String, String> sync = connection.sync();
            sync.readOnly();
            sync.multi();
            sync.get("user:1");
            sync.pttl("user:1");
            Rows.is(sync.exec().get(0), 1);
        }
        // Keys of other nodes are not to be kept: the cache asks for one of this node's.
        try (StatefulRedisConnection<String, String> connection = client.connect()) {
            int own = own(connection.sync());
            Map<String, String> kept = new ConcurrentHashMap<>();
            CacheFrontend<String, String> cache =
                    ClientSideCaching.enable(CacheAccessor.forMap(kept), connection, TrackingArgs.Builder.enabled());
            Rows.until(() -> cache.get("user:" + own) != null && kept.containsKey("user:" + own), "a value is kept by the client");
            Rows.change(cache::get, own, "Pushed to Lettuce");
        }
        client.shutdown();
    }

    /** A row whose key the node of this connection keeps: it fetches those of others and keeps nothing of them. */
    private static int own(RedisCommands<String, String> commands) {
        for (int id = 30; id < 60; id++) {
            commands.get("user:" + id);
            if (commands.pttl("user:" + id) > 0) {
                return id;
            }
        }
        throw new AssertionError("a node has keys");
    }
}
