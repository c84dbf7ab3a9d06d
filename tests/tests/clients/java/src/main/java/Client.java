import java.io.InputStream;
import java.util.Arrays;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Collectors;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisCluster;

/** Jedis: a cluster client, reads, and a change by SQL. */
public final class Client {
    public static void main(String[] arguments) throws Exception {
        System.out.println("jedis " + version());
        Set<HostAndPort> nodes = Arrays.stream(System.getenv("NODES").split(",")).map(HostAndPort::from).collect(Collectors.toSet());
        try (JedisCluster cluster = new JedisCluster(nodes)) {
            for (int id = 1; id < 60; id++) {
                check(cluster.get("user:" + id).contains("\"id\":" + id + ","), "user:" + id);
            }
            check(cluster.get("user:424242") == null, "an absent row is null");
            Process sql = new ProcessBuilder(System.getenv("SQL"), "UPDATE users SET city = 'Javaville' WHERE id = 17").inheritIO().start();
            check(sql.waitFor() == 0, "the UPDATE");
            long end = System.nanoTime() + 30_000_000_000L;
            while (!cluster.get("user:17").contains("Javaville")) {
                check(System.nanoTime() < end, "the change in time");
            }
        }
    }

    /** As Jedis's own build wrote it; its manifest names none that a package would know. */
    private static String version() throws Exception {
        try (InputStream file = JedisCluster.class.getResourceAsStream("/META-INF/maven/redis.clients/jedis/pom.properties")) {
            Properties properties = new Properties();
            properties.load(file);
            return properties.getProperty("version");
        }
    }

    private static void check(boolean right, String what) {
        if (!right) {
            throw new AssertionError(what);
        }
    }
}
