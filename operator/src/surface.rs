//! The places of the surface.

use crate::Capability;

/// A place of the surface: a page, a stream, or something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Surface {
    /// The first page.
    Home,
    /// What a search field leads to.
    Search,
    /// Everything that a filter finds.
    Timeline,
    /// How many entries a filter finds, as a part of that page.
    Count,
    /// What is new, as it comes.
    Tail,
    /// A captured transaction.
    Transaction,
    /// A row through time.
    Row,
    /// The transactions of an actor.
    Actor,
    /// An action, or a projected event.
    Action,
    /// What a correlation id ties together.
    Correlation,
    /// A transaction and everything that is tied to it.
    Incident,
    /// Own saved views.
    Saved,
    /// Saves a filter under a name.
    SaveView,
    /// Gives a saved view another name.
    RenameView,
    /// Deletes a saved view.
    RemoveView,
    /// What the surface knows, and what is not shown.
    Help,
    /// How far the pipeline has come.
    Pipeline,
    /// What could not be delivered.
    Failures,
    /// One event that could not be delivered.
    Failure,
    /// The way of one event, from the audit row to the timeline.
    Event,
    /// Something that operators did to the pipeline.
    Act,
    /// Having failed events delivered again: what it would reach, and doing it.
    Redrive,
    /// The theme, the zone and how dense lists are.
    Preferences,
    /// Which tables are captured, and what is wrong.
    Coverage,
    /// Everything that a timeline in production rests on.
    Checks,
    /// What is hidden of captured rows, as it is configured and as it is deployed.
    Redaction,
    /// How long what is kept, and what was purged.
    Retention,
    /// What was recorded of the audit itself, and its receipts.
    Evidence,
    /// Comparing the newest receipts with the timeline.
    Verify,
    /// One's own exports, and the form for another one.
    Exports,
    /// Asking for an export that is made in the background.
    QueueExport,
    /// Ending such a one.
    CancelExport,
    /// What such a one has stored.
    ExportFile,
    /// A small export at once.
    ExportNow,
}

impl Surface {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::Home,
        Self::Search,
        Self::Timeline,
        Self::Count,
        Self::Tail,
        Self::Transaction,
        Self::Row,
        Self::Actor,
        Self::Action,
        Self::Correlation,
        Self::Incident,
        Self::Saved,
        Self::SaveView,
        Self::RenameView,
        Self::RemoveView,
        Self::Help,
        Self::Pipeline,
        Self::Failures,
        Self::Failure,
        Self::Event,
        Self::Act,
        Self::Redrive,
        Self::Preferences,
        Self::Coverage,
        Self::Checks,
        Self::Redaction,
        Self::Retention,
        Self::Evidence,
        Self::Verify,
        Self::Exports,
        Self::QueueExport,
        Self::CancelExport,
        Self::ExportFile,
        Self::ExportNow,
    ];

    /// What a grant has to allow for it.
    #[must_use]
    pub fn capability(self) -> Capability {
        match self {
            Self::Home
            | Self::Search
            | Self::Timeline
            | Self::Count
            | Self::Tail
            | Self::Transaction
            | Self::Row
            | Self::Actor
            | Self::Action
            | Self::Correlation
            | Self::Incident
            | Self::Help
            | Self::Preferences => Capability::Read,
            Self::Pipeline | Self::Failures | Self::Failure | Self::Event | Self::Act => Capability::Pipeline,
            Self::Redrive => Capability::Redrive,
            Self::Saved | Self::SaveView | Self::RenameView | Self::RemoveView => Capability::Views,
            Self::Coverage | Self::Checks => Capability::Coverage,
            Self::Redaction | Self::Retention => Capability::Policies,
            Self::Evidence => Capability::Evidence,
            Self::Verify => Capability::Verify,
            Self::Exports | Self::QueueExport | Self::CancelExport | Self::ExportFile | Self::ExportNow => {
                Capability::Export
            }
        }
    }

    /// Whether it shows what is recorded, so that having looked at it is recorded where that is wanted. What is handed over is recorded always.
    pub(crate) fn is_viewing(self) -> bool {
        !matches!(
            self,
            Self::Home
                | Self::Search
                | Self::Count
                | Self::Help
                | Self::Preferences
                | Self::Verify
                | Self::QueueExport
                | Self::CancelExport
                | Self::ExportFile
                | Self::ExportNow
        )
    }
}
