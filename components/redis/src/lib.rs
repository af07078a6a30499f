//! Redis: state, pub/sub over streams.
