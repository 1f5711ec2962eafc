//! The kinds that come along.

mod noop;
#[cfg(feature = "threadline")]
mod threadline;

pub use noop::Noop;
#[cfg(feature = "threadline")]
pub use threadline::Threadline;
