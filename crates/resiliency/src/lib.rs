//! Timeout, retry and circuit breaker as values.
