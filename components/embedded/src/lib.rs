//! The hub's client: state.outrigger and pubsub.outrigger.
