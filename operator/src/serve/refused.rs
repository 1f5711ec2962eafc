//! Why what a request says of its sender does not count.

use common::process::telemetry::names;
use metrics::counter;

use crate::Denied;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Refused {
    #[error("the header that says who asks is missing")]
    Missing,
    #[error("the header that says who asks is there twice")]
    Twice,
    #[error("the header that says who asks cannot be read")]
    Unreadable,
    #[error("it is signed in a way that does not count here")]
    Algorithm,
    #[error("it is signed with a key that is not known here")]
    Key,
    #[error("its signature is not that of its content")]
    Signature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet, or for too long")]
    NotYet,
    #[error("it was issued by somebody else")]
    Issuer,
    #[error("it was issued for another application")]
    Audience,
    #[error("it was signed for another request")]
    OtherRequest,
    #[error("it has been used already")]
    Replayed,
    #[error("it does not say who asks, or not in a way that can be read")]
    Actor,
    #[error("it does not say what may be seen")]
    Scope,
    #[error("it names a capability that there is none of")]
    Capability,
    #[error("the request came through a proxy, or under another name than that of this machine")]
    NotLocal,
    #[error("the keys of the issuer could not be read")]
    NoKeys,
}

impl Refused {
    pub(super) const ALL: [Self; 17] = [
        Self::Missing,
        Self::Twice,
        Self::Unreadable,
        Self::Algorithm,
        Self::Key,
        Self::Signature,
        Self::Expired,
        Self::NotYet,
        Self::Issuer,
        Self::Audience,
        Self::OtherRequest,
        Self::Replayed,
        Self::Actor,
        Self::Scope,
        Self::Capability,
        Self::NotLocal,
        Self::NoKeys,
    ];

    /// Its name in metrics and logs.
    pub(super) fn term(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Twice => "twice",
            Self::Unreadable => "unreadable",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::OtherRequest => "other_request",
            Self::Replayed => "replayed",
            Self::Actor => "actor",
            Self::Scope => "scope",
            Self::Capability => "capability",
            Self::NotLocal => "not_local",
            Self::NoKeys => "no_keys",
        }
    }

    /// What whoever asks is told. Nothing of what they sent is in it.
    pub(super) fn denied(self) -> Denied {
        counter!(names::OPERATOR_REFUSED, "reason" => self.term()).increment(1);
        tracing::info!(reason = self.term(), "a request was refused: {self}");
        Denied::new(format!(
            "Who you are could not be verified: {self}. Open this page through the application or the proxy that it belongs to; \
             whoever runs it finds the reason in the log of threadline-serve."
        ))
    }
}
