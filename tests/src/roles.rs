//! Who the processes of a pipeline are to its servers: what `deploy/` says, and the owner for what it leaves to the owner.

use sandbox::rights::{as_role, as_user};

/// Whose work a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The relay.
    Publisher,
    /// The forwarders.
    Consumer,
    /// Somebody who looks.
    Operator,
    /// Somebody who decides.
    Decider,
    /// Somebody who delivers a part of the stream once more.
    Replayer,
    /// Whoever may change tables, and may do everything here.
    Owner,
}

impl Role {
    /// Of a command line, without its options.
    pub(crate) fn of(binary: &str, arguments: &[&str]) -> Self {
        match (binary, arguments) {
            ("publisher", ["run" | "prune", ..]) | ("embed_publisher", _) => Self::Publisher,
            ("consumer" | "host", ["run", ..]) => Self::Consumer,
            (_, ["status", ..]) | ("consumer", ["failures", "list", ..]) => Self::Operator,
            ("consumer", ["failures" | "reconcile" | "receipts" | "explain", rest @ ..])
                // Only the owner of the timeline removes actions.
                if !rest.contains(&"--remove-extra") =>
            {
                Self::Decider
            }
            ("publisher", ["backfill", ..]) => Self::Decider,
            ("consumer", ["replay", ..]) => Self::Replayer,
            _ => Self::Owner,
        }
    }

    pub(crate) fn source(self, url: &str) -> String {
        match self {
            Self::Publisher => as_role(url, "audit_publisher"),
            Self::Consumer | Self::Replayer => as_role(url, "audit_consumer"),
            Self::Operator => as_role(url, "audit_operator"),
            Self::Decider => as_role(url, "audit_decider"),
            Self::Owner => url.to_owned(),
        }
    }

    pub(crate) fn timeline(self, url: &str) -> String {
        match self {
            Self::Consumer => as_role(url, "audit_projector"),
            Self::Decider | Self::Replayer => as_role(url, "audit_reconciler"),
            _ => url.to_owned(),
        }
    }

    pub(crate) fn broker(self, url: &str) -> String {
        match self {
            Self::Publisher => as_user(url, "publisher"),
            Self::Consumer | Self::Replayer => as_user(url, "consumer"),
            Self::Operator | Self::Decider => as_user(url, "operator"),
            Self::Owner => url.to_owned(),
        }
    }
}
