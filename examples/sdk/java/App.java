import com.sun.net.httpserver.HttpServer;
import io.dapr.client.DaprClient;
import io.dapr.client.DaprClientBuilder;
import io.dapr.client.DaprPreviewClient;
import io.dapr.client.SubscriptionListener;
import io.dapr.client.domain.CloudEvent;
import io.dapr.client.domain.HttpExtension;
import io.dapr.client.domain.State;
import io.dapr.client.domain.StateOptions;
import io.dapr.client.domain.TransactionalStateOperation;
import io.dapr.client.domain.UnlockResponseStatus;
import io.dapr.exceptions.DaprException;
import io.dapr.utils.TypeRef;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import reactor.core.publisher.Mono;

/**
 * Each building block once, with the released Dapr SDK for Java.
 *
 * The app is both ends: it serves calls, events and bindings over HTTP, and causes them through its sidecar. It prints one line per
 * feature and ends with 0, or with the reason at the first thing that is not as it should be.
 */
class App {
    static final int PATIENCE = 30; // seconds
    static final String APP_ID = System.getenv("APP_ID");
    static final BlockingQueue<String> orders = new LinkedBlockingQueue<>();
    static final BlockingQueue<String> ticks = new LinkedBlockingQueue<>();

    final DaprClient client = new DaprClientBuilder().build();
    final DaprPreviewClient preview = new DaprClientBuilder().buildPreviewClient();

    interface Feature {
        void attempt() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("APP_PORT"))), 0);
        answer(server, "/", body -> ""); // among other things: nothing is configured, health is fine
        answer(server, "/dapr/subscribe", body -> "[{\"pubsubname\":\"pubsub\",\"topic\":\"java-orders\",\"route\":\"/orders\"}]");
        answer(server, "/orders", App::order);
        answer(server, "/shout", String::toUpperCase);
        answer(server, "/tick", tick -> ticks.add(tick) ? "{}" : "");
        server.start();
        App app = new App();
        app.feature("health", app::health);
        app.feature("metadata", app::metadata);
        app.feature("state", app::state);
        app.feature("transactions", app::transactions);
        app.feature("invocation", app::invocation);
        app.feature("pubsub", app::pubsub);
        app.feature("streaming", app::streaming);
        app.feature("bindings", app::bindings);
        app.feature("secrets", app::secrets);
        app.feature("configuration", app::configuration);
        app.feature("lock", app::lock);
        System.exit(0);
    }

    void feature(String name, Feature feature) {
        try {
            feature.attempt();
        } catch (Throwable reason) {
            reason.printStackTrace();
            System.out.println("failed " + name);
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    /** Serves one path: the answer to a body. */
    static void answer(HttpServer server, String path, UnaryOperator<String> answer) {
        server.createContext(path, exchange -> {
            byte[] bytes = answer.apply(new String(exchange.getRequestBody().readAllBytes())).getBytes();
            exchange.getResponseHeaders().set("content-type", "application/json");
            exchange.sendResponseHeaders(200, bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        });
    }

    static String order(String event) {
        try {
            orders.add(CloudEvent.deserialize(event.getBytes()).getData().toString());
        } catch (IOException reason) {
            return "{\"status\":\"DROP\"}";
        }
        return "{\"status\":\"SUCCESS\"}";
    }

    void health() {
        client.waitForSidecar(PATIENCE * 1000).block();
    }

    void metadata() {
        var seen = client.getMetadata().block();
        same(seen.getId(), APP_ID);
        same(seen.getComponents().stream().anyMatch(component -> component.getName().equals("statestore")), true);
    }

    void state() {
        client.saveState("statestore", "one", "1").block();
        State<String> first = client.getState("statestore", "one", String.class).block();
        same(first.getValue(), "1");
        StateOptions options = new StateOptions(StateOptions.Consistency.STRONG, StateOptions.Concurrency.FIRST_WRITE);
        client.saveState("statestore", "one", first.getEtag(), "2", options).block();
        try {
            client.saveState("statestore", "one", first.getEtag(), "3", options).block();
            throw new AssertionError("an old etag was accepted");
        } catch (DaprException refused) {
            same(refused.getErrorCode(), "ABORTED");
        }
        List<State<?>> more = List.of(new State<>("two", "b", null, null), new State<>("three", "c", null, null));
        client.saveBulkState("statestore", more).block();
        same(values("one", "two", "three"), "2 b c");
        client.deleteState("statestore", "one").block();
        same(values("one", "two"), "null b");
    }

    /** The values of these keys, separated by blanks. */
    String values(String... keys) {
        var found = client.getBulkState("statestore", List.of(keys), String.class).block();
        return Stream.of(keys)
            .map(key -> found.stream().filter(state -> state.getKey().equals(key)).findFirst().orElseThrow().getValue())
            .map(String::valueOf)
            .collect(Collectors.joining(" "));
    }

    void transactions() {
        client.executeStateTransaction("statestore", List.of(
            new TransactionalStateOperation<>(TransactionalStateOperation.OperationType.UPSERT, new State<>("four", "d", null, null)),
            new TransactionalStateOperation<>(TransactionalStateOperation.OperationType.DELETE, new State<>("two"))
        )).block();
        same(values("four", "two"), "d null");
    }

    void invocation() {
        same(client.invokeMethod(APP_ID, "shout", "hello", HttpExtension.POST, String.class).block(), "HELLO");
    }

    void pubsub() throws InterruptedException {
        // Events of before the sidecar has subscribed need not arrive; those of earlier runs may.
        boolean arrived = false;
        for (int second = 0; !arrived && second < PATIENCE; second++) {
            client.publishEvent("pubsub", "java-orders", Map.of("id", 1)).block();
            arrived = "{id=1}".equals(orders.poll(1, TimeUnit.SECONDS));
        }
        same(arrived, true);
        var answer = client.publishEvents("pubsub", "java-orders", "text/plain", "two", "three").block();
        same(answer.getFailedEntries().size(), 0);
        for (Set<String> left = new TreeSet<>(List.of("two", "three")); !left.isEmpty(); ) {
            left.remove(next(orders));
        }
    }

    void streaming() throws InterruptedException {
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        var subscription = preview.subscribeToEvents("pubsub", "java-stream", new SubscriptionListener<String>() {
            @Override
            public Mono<Status> onEvent(CloudEvent<String> event) {
                heard.add(event.getData());
                return Mono.just(Status.SUCCESS);
            }

            @Override
            public void onError(RuntimeException reason) {
                heard.add(reason.toString());
            }
        }, TypeRef.STRING);
        String first = null;
        // The SDK does not say when it has subscribed.
        for (int second = 0; first == null && second < PATIENCE; second++) {
            client.publishEvent("pubsub", "java-stream", "hello").block();
            first = heard.poll(1, TimeUnit.SECONDS);
        }
        same(first, "hello");
        subscription.close();
    }

    void bindings() throws InterruptedException {
        next(ticks);
        Map<String, String> file = Map.of("fileName", "java.txt");
        client.invokeBinding("files", "create", "hello".getBytes(), file).block();
        same(new String(client.invokeBinding("files", "get", new byte[0], file).block()), "hello");
        client.invokeBinding("files", "delete", new byte[0], file).block();
    }

    void secrets() {
        same(client.getSecret("vault", "greeting").block().get("greeting"), "hello");
        same(client.getBulkSecret("vault").block().get("database:password").get("database:password"), "not a real one");
    }

    void configuration() throws Exception {
        setColour("red");
        same(client.getConfiguration("configstore", "colour").block().getValue(), "red");
        BlockingQueue<String> ids = new LinkedBlockingQueue<>();
        BlockingQueue<String> told = new LinkedBlockingQueue<>();
        client.subscribeConfiguration("configstore", "colour").subscribe(change -> {
            ids.add(change.getSubscriptionId());
            change.getItems().values().forEach(item -> told.add(item.getValue()));
        });
        String id = next(ids);
        setColour("blue");
        same(next(told), "blue");
        same(client.unsubscribeConfiguration(id, "configstore").block().getIsUnsubscribed(), true);
    }

    /** Writes a value that the app is then told of; the SDKs themselves can only read configuration. */
    static void setColour(String value) throws Exception {
        String command = Optional.ofNullable(System.getenv("SET_COLOUR")).orElse("outrigger configuration set colour");
        same(new ProcessBuilder((command + " " + value).split(" ")).start().waitFor(), 0);
    }

    void lock() {
        same(preview.tryLock("lockstore", "tray", "ann", 60).block(), true);
        same(preview.tryLock("lockstore", "tray", "bob", 60).block(), false);
        same(preview.unlock("lockstore", "tray", "bob").block(), UnlockResponseStatus.LOCK_BELONG_TO_OTHERS);
        same(preview.unlock("lockstore", "tray", "ann").block(), UnlockResponseStatus.SUCCESS);
    }

    static String next(BlockingQueue<String> queue) throws InterruptedException {
        return Objects.requireNonNull(queue.poll(PATIENCE, TimeUnit.SECONDS), "nothing came");
    }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(found + " instead of " + expected);
        }
    }
}
