//! The embedded engine and the one local process that serves it: durable log, topics, key/value, names.
