// Each building block once, with the released Dapr SDK for JavaScript.
//
// The app is both ends: it serves calls, events and bindings, and causes them through its sidecar; over HTTP, or all over gRPC
// when its sidecar was started with `--app-protocol grpc`. It prints one line per feature and ends with 0, or with the
// reason at the first thing that is not as it should be.

const assert = require("node:assert/strict");
const { execSync } = require("node:child_process");
const { setTimeout: sleep } = require("node:timers/promises");
const { CommunicationProtocolEnum, DaprClient, DaprServer, HttpMethod } = require("@dapr/dapr");

const { APP_ID, APP_PORT, APP_PROTOCOL, DAPR_HTTP_PORT, DAPR_GRPC_PORT } = process.env;
// Writes a value that the app is then told of; the SDKs themselves can only read configuration.
const SET_COLOUR = process.env.SET_COLOUR ?? "outrigger configuration set colour";
const PATIENCE = 30_000;

const byGrpc = APP_PROTOCOL === "grpc";
const quiet = { log() {}, verbose() {}, debug() {}, info() {}, warn() {}, error() {} };
const silent = { level: "error", service: quiet };
const http = { daprHost: "127.0.0.1", daprPort: DAPR_HTTP_PORT, logger: silent };
const grpc = { ...http, daprPort: DAPR_GRPC_PORT, communicationProtocol: CommunicationProtocolEnum.GRPC };

const server = new DaprServer({
  serverHost: "127.0.0.1",
  serverPort: APP_PORT,
  communicationProtocol: byGrpc ? CommunicationProtocolEnum.GRPC : CommunicationProtocolEnum.HTTP,
  clientOptions: byGrpc ? grpc : http,
  logger: silent,
});
const client = new DaprClient(byGrpc ? grpc : http);
// What the SDK offers over gRPC only.
const grpcClient = new DaprClient(grpc);

const orders = [];
const bulk = [];
let ticks = 0;
const topic = byGrpc ? "javascript-grpc" : "javascript-http";

// Waits until `look` finds something; `again` is done each time before looking again.
async function until(what, look, again = async () => {}) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(50)) {
    const found = await look();
    if (found) return found;
    await again();
  }
  assert.fail(`${what} did not happen`);
}

const features = {
  async health() {
    await DaprClient.awaitSidecarStarted(() => client.health.isHealthy(), quiet);
    assert.ok(await client.health.isHealthy());
  },

  async metadata() {
    assert.ok(await client.metadata.set("speaks", "javascript"));
    const seen = await client.metadata.get();
    assert.equal(seen.id, APP_ID);
    assert.ok(seen.components.some((component) => component.name === "statestore"), JSON.stringify(seen));
  },

  async state() {
    const { state } = client;
    assert.deepEqual(await state.save("statestore", [{ key: "one", value: { n: 1 } }, { key: "two", value: "b" }]), {});
    assert.deepEqual(await state.get("statestore", "one"), { n: 1 });
    assert.equal(await state.get("statestore", "two"), "b");
    const [{ etag }] = await state.getBulk("statestore", ["one"]);
    assert.ok(etag);
    const change = [{ key: "one", value: { n: 2 }, etag, options: { concurrency: 1 } }];
    assert.deepEqual(await state.save("statestore", change), {});
    // The SDK answers with the error over HTTP, and throws it over gRPC.
    const again = await state.save("statestore", change).catch((error) => ({ error }));
    assert.match(String(again.error), /etag/, "an old etag was accepted");
    const found = await state.getBulk("statestore", ["one", "two", "none"]);
    assert.deepEqual(found.map((item) => item.key).sort(), ["none", "one", "two"]);
    assert.deepEqual(found.find((item) => item.key === "one").data, { n: 2 });
    assert.equal((await state.delete("statestore", "one")).error, undefined);
    assert.equal(await state.get("statestore", "one"), "");
  },

  async transactions() {
    await client.state.transaction("statestore", [
      { operation: "upsert", request: { key: "four", value: "d" } },
      { operation: "delete", request: { key: "two" } },
    ]);
    assert.equal(await client.state.get("statestore", "four"), "d");
    assert.equal(await client.state.get("statestore", "two"), "");
  },

  async invocation() {
    const answer = await client.invoker.invoke(APP_ID, "shout", HttpMethod.POST, { text: "hello" });
    assert.deepEqual(answer, { text: "HELLO" });
    assert.equal((await client.invoker.invoke(APP_ID, "ping", HttpMethod.GET)).pong, true);
  },

  async pubsub() {
    const publish = async () => assert.deepEqual(await client.pubsub.publish("pubsub", topic, { id: 1 }), {});
    // Events of before the sidecar has subscribed need not arrive; those of earlier runs may.
    await until("an event", () => orders.some((event) => event.id === 1), publish);
    const answer = await client.pubsub.publishBulk("pubsub", `${topic}-bulk`, [{ id: 2 }, { id: 3 }]);
    assert.deepEqual(answer.failedMessages, []);
    await until("both events", () => [2, 3].every((id) => bulk.some((event) => event.id === id)));
  },

  async bindings() {
    await until("a tick", () => ticks > 0);
    const file = { fileName: "javascript.txt" };
    await client.binding.send("files", "create", "hello", file);
    const found = await client.binding.send("files", "get", "", file);
    assert.equal(byGrpc ? Buffer.from(found.data).toString() : found, "hello");
    await client.binding.send("files", "delete", "", file);
  },

  async secrets() {
    assert.deepEqual(await client.secret.get("vault", "greeting"), { greeting: "hello" });
    const every = await client.secret.getBulk("vault");
    assert.deepEqual(every["database:password"], { "database:password": "not a real one" });
  },

  async configuration() {
    const set = async (value) => execSync(`${SET_COLOUR} ${value}`);
    await set("red");
    assert.equal((await grpcClient.configuration.get("configstore", ["colour"])).items.colour.value, "red");
    let colour;
    const told = async (change) => (colour = change.items.colour.value);
    const subscription = await grpcClient.configuration.subscribeWithKeys("configstore", ["colour"], told);
    // The SDK does not say when it has subscribed.
    let shade = 0;
    await until("a change", () => colour?.startsWith("blue"), () => set(`blue${(shade += 1)}`));
    await subscription.stop();
  },

  async lock() {
    const { lock } = client;
    assert.ok((await lock.lock("lockstore", "tray", "ann", 60)).success);
    assert.ok(!(await lock.lock("lockstore", "tray", "bob", 60)).success);
    assert.equal((await lock.unlock("lockstore", "tray", "bob")).status, 2, "somebody else holds it");
    assert.equal((await lock.unlock("lockstore", "tray", "ann")).status, 0, "it is free now");
  },
};

async function main() {
  await server.invoker.listen("shout", async ({ body }) => ({ text: JSON.parse(body).text.toUpperCase() }), { method: HttpMethod.POST });
  await server.invoker.listen("ping", async () => ({ pong: true }));
  await server.pubsub.subscribe("pubsub", topic, async (event) => void orders.push(event));
  // Several events in one call: the SDK's own answer to that is broken over gRPC.
  const subscribeBulk = byGrpc ? server.pubsub.subscribe : server.pubsub.subscribeBulk;
  await subscribeBulk.call(server.pubsub, "pubsub", `${topic}-bulk`, async (event) => void bulk.push(event));
  await server.binding.receive("tick", async () => void (ticks += 1));
  await server.start();
  for (const [name, feature] of Object.entries(features)) {
    await feature().catch((reason) => {
      console.error(reason);
      console.log(`failed ${name}`);
      process.exit(1);
    });
    console.log(`ok ${name}`);
  }
  process.exit(0);
}

main();
