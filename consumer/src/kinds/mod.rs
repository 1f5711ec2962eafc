//! The built-in kinds. A new one is a module here, a line in `with_built_in`, a cargo feature, and a name in `BUILT_IN` of
//! `crate::forwarder`.

mod noop;
#[cfg(feature = "threadline")]
mod threadline;
#[cfg(feature = "webhook")]
mod webhook;

pub use noop::Noop;
#[cfg(feature = "threadline")]
pub use threadline::{Threadline, TimelineForwarder};
#[cfg(feature = "webhook")]
pub use webhook::Webhook;

use crate::forwarder::Registry;

impl Registry {
    /// The built-in kinds: `noop` and, with the cargo features of these names, `threadline` and `webhook`.
    #[must_use]
    pub fn with_built_in() -> Self {
        let mut registry = Self::default();
        registry.register("noop", Noop);
        #[cfg(feature = "threadline")]
        registry.register(TimelineForwarder::KIND, Threadline);
        #[cfg(feature = "webhook")]
        registry.register("webhook", Webhook);
        registry
    }
}
