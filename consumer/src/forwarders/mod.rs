//! The kinds that come along.

mod noop;
#[cfg(feature = "threadline")]
mod threadline;
#[cfg(feature = "webhook")]
mod webhook;

pub use noop::Noop;
#[cfg(feature = "threadline")]
pub use threadline::{Threadline, Timeline};
#[cfg(feature = "webhook")]
pub use webhook::Webhook;
