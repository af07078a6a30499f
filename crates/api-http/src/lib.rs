//! HTTP door: routes to runtime calls; the only place with URL paths and HTTP status.
