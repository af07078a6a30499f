//! The door over real sockets: what clients send, what they get, and what was asked of the seams.

mod bench;
mod fakes;
mod hostile;
mod internal;
mod invocation;
mod many;
mod requests;
mod stores;
mod streams;
mod surroundings;
