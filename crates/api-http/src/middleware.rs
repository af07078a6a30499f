//! What every request passes, in the reference's order: body limit, tracing, metrics, CORS, API token, access log.
//! They are plain functions that the door calls one after the other; there is no chain of boxed services.

pub(crate) mod cors;
pub(crate) mod finish;
pub(crate) mod limit;
pub(crate) mod token;
pub(crate) mod trace;
