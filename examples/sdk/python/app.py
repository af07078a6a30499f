"""Each building block once, with the released Dapr SDK for Python.

The app is both ends: it serves calls, events and bindings over gRPC, and causes them through its sidecar. It prints one line
per feature and ends with 0, or with the reason at the first thing that is not as it should be.
"""

import os
import queue
import shlex
import subprocess
import sys
import threading
import traceback
import warnings

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._response import TopicEventResponse, UnlockResponseStatus
from dapr.clients.grpc._state import StateItem
from dapr.clients.health import DaprHealth
from dapr.ext.grpc import App, BindingRequest, InvokeMethodRequest, InvokeMethodResponse

APP_ID = os.environ["APP_ID"]
# Writes a value that the app is then told of; the SDKs themselves can only read configuration.
SET_COLOUR = shlex.split(os.environ.get("SET_COLOUR", "outrigger configuration set colour"))
PATIENCE = 30

app = App()
orders: queue.Queue = queue.Queue()
ticks: queue.Queue = queue.Queue()


@app.method("shout")
def shout(request: InvokeMethodRequest) -> InvokeMethodResponse:
    return InvokeMethodResponse(request.text().upper(), "text/plain")


@app.subscribe(pubsub_name="pubsub", topic="python-orders")
def order(event) -> TopicEventResponse:
    orders.put(event.Data())
    return TopicEventResponse("success")


@app.binding("tick")
def tick(request: BindingRequest) -> None:
    ticks.put(request.text())


def health(client: DaprClient) -> None:
    DaprHealth.wait_for_sidecar()
    client.wait(PATIENCE)


def metadata(client: DaprClient) -> None:
    client.set_metadata("speaks", "python")
    seen = client.get_metadata()
    assert seen.application_id == APP_ID, seen.application_id
    assert seen.extended_metadata["speaks"] == "python", seen.extended_metadata
    components = {component.name: component.type for component in seen.registered_components}
    assert "statestore" in components, components


def state(client: DaprClient) -> None:
    client.save_state("statestore", "one", "1", state_metadata={"contentType": "application/json"})
    first = client.get_state("statestore", "one")
    assert first.data == b"1" and first.etag, (first.data, first.etag)
    client.save_state("statestore", "one", "2", etag=first.etag)
    try:
        client.save_state("statestore", "one", "3", etag=first.etag)
        raise AssertionError("an old etag was accepted")
    except DaprGrpcError as error:
        assert error.code().name == "ABORTED", error
    client.save_bulk_state("statestore", [StateItem("two", "b"), StateItem("three", "c")])
    found = {item.key: item.data for item in client.get_bulk_state("statestore", ["one", "two", "none"]).items}
    assert found == {"one": b"2", "two": b"b", "none": b""}, found
    client.delete_state("statestore", "one")
    assert client.get_state("statestore", "one").data == b""


def transactions(client: DaprClient) -> None:
    delete = TransactionOperationType.delete
    client.execute_state_transaction(
        "statestore",
        [
            TransactionalStateOperation(key="four", data="d"),
            TransactionalStateOperation(key="two", data="", operation_type=delete),
        ],
    )
    assert client.get_state("statestore", "four").data == b"d"
    assert client.get_state("statestore", "two").data == b""


def invocation(client: DaprClient) -> None:
    answer = client.invoke_method(APP_ID, "shout", "hello", content_type="text/plain")
    assert answer.text() == "HELLO", answer.data


def pubsub(client: DaprClient) -> None:
    # Events of before the sidecar has subscribed need not arrive; those of earlier runs may.
    for _ in range(PATIENCE):
        client.publish_event("pubsub", "python-orders", '{"id":1}', data_content_type="application/json")
        try:
            if orders.get(timeout=1) == b'{"id":1}':
                break
        except queue.Empty:
            continue
    else:
        raise AssertionError("no event came")
    client.publish_events("pubsub", "python-orders", ["two", "three"], data_content_type="text/plain")
    missing = {b"two", b"three"}
    while missing:
        missing.discard(orders.get(timeout=PATIENCE))


def first_of_stream(client: DaprClient):
    for _ in range(5):
        subscription = client.subscribe("pubsub", "python-stream")
        client.publish_event("pubsub", "python-stream", '{"id": 2}', data_content_type="application/json")
        try:
            return subscription, subscription.next_message()
        except Exception as error:
            # The SDK's thread for requests ends them when it is quicker than the one that says that the stream is active.
            if not isinstance(error.__context__, StopIteration):
                raise
    raise AssertionError("the stream ends at once, each time")


def streaming(client: DaprClient) -> None:
    subscription, message = first_of_stream(client)
    assert message.data() == {"id": 2}, message.data()
    subscription.respond_success(message)
    subscription.close()


def bindings(client: DaprClient) -> None:
    ticks.get(timeout=PATIENCE)
    client.invoke_binding("files", "create", "hello", {"fileName": "python.txt"})
    assert client.invoke_binding("files", "get", "", {"fileName": "python.txt"}).text() == "hello"
    client.invoke_binding("files", "delete", "", {"fileName": "python.txt"})


def secrets(client: DaprClient) -> None:
    assert client.get_secret("vault", "greeting").secret == {"greeting": "hello"}
    every = client.get_bulk_secret("vault").secrets
    assert every["database:password"] == {"database:password": "not a real one"}, every


def configuration(client: DaprClient) -> None:
    subprocess.run([*SET_COLOUR, "red"], check=True, stdout=subprocess.DEVNULL)
    assert client.get_configuration("configstore", ["colour"]).items["colour"].value == "red"
    told: queue.Queue = queue.Queue()
    id = client.subscribe_configuration("configstore", ["colour"], lambda _, change: told.put(change))
    subprocess.run([*SET_COLOUR, "blue"], check=True, stdout=subprocess.DEVNULL)
    assert told.get(timeout=PATIENCE).items["colour"].value == "blue"
    assert client.unsubscribe_configuration("configstore", id)


def lock(client: DaprClient) -> None:
    with client.try_lock("lockstore", "tray", "ann", 60) as held:
        assert held.success
        assert not client.try_lock("lockstore", "tray", "bob", 60).success
        status = client.unlock("lockstore", "tray", "bob").status
        assert status == UnlockResponseStatus.lock_belongs_to_others, status
    with client.try_lock("lockstore", "tray", "bob", 60) as held:
        assert held.success


def main() -> int:
    warnings.simplefilter("ignore")  # What is alpha or deprecated in the SDK is tried all the same.
    threading.Thread(target=app.run, args=[int(os.environ["APP_PORT"])], daemon=True).start()
    features = [health, metadata, state, transactions, invocation, pubsub, streaming, bindings]
    features += [secrets, configuration, lock]
    with DaprClient() as client:
        for feature in features:
            try:
                feature(client)
            except Exception:
                traceback.print_exc()
                print(f"failed {feature.__name__}", flush=True)
                return 1
            print(f"ok {feature.__name__}", flush=True)
    app.stop()
    return 0


sys.exit(main())
