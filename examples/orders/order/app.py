"""Takes orders: stores each, publishes it on `orders`, and hears of its bill on `bills`.

Knows nothing but its sidecar on localhost:$DAPR_HTTP_PORT.
"""
import json
import os
import secrets
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDECAR = f"http://localhost:{os.environ['DAPR_HTTP_PORT']}"
PORT = int(os.environ.get("APP_PORT", "6001"))
ORDERS = int(os.environ.get("ORDERS", "20"))
PAUSE = 1 / float(os.environ.get("RATE", "5"))
billed = set()


def post(path, value, traceparent):
    headers = {"Content-Type": "application/json", "traceparent": traceparent}
    request = urllib.request.Request(SIDECAR + path, json.dumps(value).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


def until_ready():
    while True:
        try:
            with urllib.request.urlopen(SIDECAR + "/v1.0/healthz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)


def place_orders():
    until_ready()
    for number in range(1, ORDERS + 1):
        order = {"orderId": f"o-{number}", "item": "paddle", "quantity": number % 5 + 1}
        # One trace for all that is done about an order (W3C Trace Context).
        traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        post("/v1.0/state/statestore", [{"key": order["orderId"], "value": order}], traceparent)
        post("/v1.0/publish/pubsub/orders", order, traceparent)
        print("placed", order["orderId"], flush=True)
        time.sleep(PAUSE)


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bill = event["data"]
        billed.add(bill["orderId"])
        print(f"billed {bill['orderId']}: {bill['total']} ({len(billed)} of {ORDERS})", flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


threading.Thread(target=place_orders, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", PORT), App).serve_forever()
