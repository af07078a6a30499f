//! The use cases over a broker and an app that can be scripted.

mod batches;
mod bulk;
mod delivery;
mod fakes;
mod forms;
mod life;
mod outbox;
mod publish;
mod streams;
