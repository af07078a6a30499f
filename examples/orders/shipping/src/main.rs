//! Ships each order it hears of. Called by its sidecar; calls nobody.

use serde_json::Value;
use std::io::Read as _;
use tiny_http::{Method, Request, Response, Server};

fn ship(request: &mut Request) -> Result<String, String> {
    let mut body = String::new();
    request.as_reader().read_to_string(&mut body).map_err(|error| error.to_string())?;
    let event: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let id = event["data"]["orderId"].as_str().ok_or("the event has no orderId")?;
    Ok(id.to_owned())
}

fn main() {
    let port = std::env::var("APP_PORT").unwrap_or_else(|_| "6004".into());
    let server = Server::http(format!("127.0.0.1:{port}")).expect("the port is free");
    for mut request in server.incoming_requests() {
        let status = match (request.method(), request.url()) {
            (Method::Post, "/orders") => match ship(&mut request) {
                Ok(id) => {
                    println!("shipped {id}");
                    200
                }
                Err(error) => {
                    eprintln!("not shipped: {error}");
                    400
                }
            },
            _ => 404,
        };
        if let Err(error) = request.respond(Response::empty(status)) {
            eprintln!("no answer possible: {error}");
        }
    }
}
