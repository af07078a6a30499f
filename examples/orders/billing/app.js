// Bills each order it hears of and publishes the bill on `bills`.
// Knows nothing but its sidecar on localhost:$DAPR_HTTP_PORT.
"use strict";
const http = require("node:http");

const sidecar = `http://localhost:${process.env.DAPR_HTTP_PORT}`;
const port = Number(process.env.APP_PORT || 6002);

// `traceparent` ties the bill to the trace of the order: a sidecar cannot know which request led to which.
function publish(topic, value, traceparent) {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(value);
    const options = {
      method: "POST",
      headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
    };
    if (traceparent) options.headers.traceparent = traceparent;
    const request = http.request(`${sidecar}/v1.0/publish/pubsub/${topic}`, options, (answer) => {
      answer.resume();
      answer.on("end", () => (answer.statusCode < 300 ? resolve() : reject(new Error(`status ${answer.statusCode}`))));
    });
    request.on("error", reject);
    request.end(body);
  });
}

function read(request) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => resolve(Buffer.concat(pieces).toString()));
    request.on("error", reject);
  });
}

const server = http.createServer(async (request, response) => {
  try {
    const body = await read(request);
    if (request.method !== "POST" || request.url !== "/orders") {
      response.writeHead(404).end();
      return;
    }
    const order = JSON.parse(body).data;
    const bill = { orderId: order.orderId, total: order.quantity * 12.5 };
    await publish("bills", bill, request.headers.traceparent);
    console.log(`billed ${order.orderId}`);
    response.writeHead(200).end();
  } catch (error) {
    // Not acknowledged: the event comes again.
    console.error(`not billed: ${error.message}`);
    response.writeHead(500).end();
  }
});
server.listen(port, "127.0.0.1");
