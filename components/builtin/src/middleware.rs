//! HTTP middlewares that ask nobody else.

pub mod alias;
pub mod check;
pub mod rate;
pub mod uppercase;
