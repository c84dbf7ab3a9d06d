import java.util.List;
import org.springframework.data.redis.connection.RedisClusterConfiguration;
import org.springframework.data.redis.connection.lettuce.LettuceConnectionFactory;
import org.springframework.data.redis.core.StringRedisTemplate;

/** Spring Data Redis, with Lettuce under it as by default: a template on a cluster, and several keys at once. */
public final class SpringClient {
    public static void main(String[] arguments) throws Exception {
        System.out.println("spring-data-redis " + Rows.version(StringRedisTemplate.class, "org.springframework.data", "spring-data-redis"));
        LettuceConnectionFactory factory = new LettuceConnectionFactory(new RedisClusterConfiguration(Rows.nodes()));
        factory.afterPropertiesSet();
        factory.start();
        StringRedisTemplate template = new StringRedisTemplate(factory);
        Rows.read(key -> template.opsForValue().get(key), 31, "Springville");
        List<String> some = template.opsForValue().multiGet(List.of("user:1", "user:2", "user:424242"));
        Rows.is(some.get(0), 1);
        Rows.is(some.get(1), 2);
        Rows.check(some.get(2) == null, "an absent row is null");
        Rows.check(template.hasKey("user:1") && !template.hasKey("user:424242"), "EXISTS");
        factory.destroy();
    }
}
