import java.io.InputStream;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.function.Function;

/** What all clients read, and how a row is changed. */
final class Rows {
    private Rows() {}

    /** Where the nodes are, as {@code host:port}. */
    static List<String> nodes() {
        return Arrays.asList(System.getenv("NODES").split(","));
    }

    /** Reads rows, one that there is not, and one whose row changes meanwhile. */
    static void read(Function<String, String> get, int id, String city) throws Exception {
        for (int number = 1; number < 60; number++) {
            is(get.apply("user:" + number), number);
        }
        check(get.apply("user:424242") == null, "an absent row is null");
        change(get, id, city);
    }

    /** Changes a row by SQL, and reads it until the change is there. */
    static void change(Function<String, String> get, int id, String city) throws Exception {
        String statement = "UPDATE users SET city = '" + city + "' WHERE id = " + id;
        check(new ProcessBuilder(System.getenv("SQL"), statement).inheritIO().start().waitFor() == 0, "the UPDATE");
        until(() -> get.apply("user:" + id).contains(city), "the change in time");
    }

    interface Question {
        boolean ask() throws Exception;
    }

    static void until(Question question, String what) throws Exception {
        long end = System.nanoTime() + 30_000_000_000L;
        while (!question.ask()) {
            check(System.nanoTime() < end, what);
        }
    }

    static void is(String value, int id) {
        check(value != null && value.contains("\"id\":" + id + ","), "user:" + id + " is " + value);
    }

    /** The version of a library, as its own build wrote it; the manifests of most name none that a package would know. */
    static String version(Class<?> of, String group, String artifact) throws Exception {
        String path = "/META-INF/maven/" + group + "/" + artifact + "/pom.properties";
        try (InputStream file = of.getResourceAsStream(path)) {
            if (file == null) {
                return String.valueOf(of.getPackage().getImplementationVersion());
            }
            Properties properties = new Properties();
            properties.load(file);
            return properties.getProperty("version");
        }
    }

    static void check(boolean right, String what) {
        if (!right) {
            throw new AssertionError(what);
        }
    }
}
