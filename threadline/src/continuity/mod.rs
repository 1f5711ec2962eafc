//! Continuity: what is needed so that no change goes unrecorded while capture begins, is switched off and on, or changes hands, and
//! what is done about history that older triggers have recorded without keys.
//!
//! [`assert_ready`] says whether a table is captured, [`cutover_steps`] how one that has rows already comes to be,
//! [`disable_capture`] and [`enable_capture`] switch it off and on and say so in the timeline, [`KeyBackfill`] gives old changes
//! their keys.

mod cutover;
mod gaps;
mod keys;
mod locks;
mod marks;
mod readiness;
mod switch;

pub use cutover::{Step, cutover_steps};
pub use gaps::{Gap, gaps};
pub use keys::{KeyBackfill, KeyBackfillError, RecoveredKeys};
pub(crate) use marks::DISABLED as CAPTURE_DISABLED;
pub use readiness::{NotReady, Readiness, assert_ready};
pub use switch::{SwitchError, disable_capture, enable_capture};
