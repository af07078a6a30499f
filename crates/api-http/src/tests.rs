//! The door over real use cases with fakes behind them, asked through raw TCP.

mod bench;
mod bodies;
mod fakes;
mod hostile;
mod requests;
mod stores;
mod surroundings;
