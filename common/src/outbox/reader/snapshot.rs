//! `pg_snapshot` in its text form, `xmin:xmax:xip,xip,…`.

use std::{fmt, str::FromStr};

/// Which transactions were visible at one moment: those below `xmax` that are not in the list of running ones.
///
/// Kept as text, because the server computes with it; only `xmax` is read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    text: String,
    xmax: u64,
}

impl Snapshot {
    /// The snapshot before the first transaction of a cluster: nothing is visible in it.
    pub const EMPTY: &str = "3:3:";

    /// The first transaction id that had not been handed out.
    #[must_use]
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether transactions were running.
    #[must_use]
    pub fn has_running(&self) -> bool {
        !self.text.ends_with(':')
    }
}

/// Text that is not a snapshot.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a pg_snapshot")]
pub struct SnapshotError(String);

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let xmax = text.split(':').nth(1).and_then(|xmax| xmax.parse().ok());
        match xmax {
            Some(xmax) if text.matches(':').count() == 2 => Ok(Self { text: text.to_owned(), xmax }),
            _ => Err(SnapshotError(text.to_owned())),
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_from_their_text_form() {
        let snapshot: Snapshot = "10:20:10,14,15".parse().expect("a snapshot");
        assert_eq!(snapshot.xmax(), 20);
        assert!(snapshot.has_running());
        let empty: Snapshot = Snapshot::EMPTY.parse().expect("a snapshot");
        assert!(!empty.has_running());
        for text in ["", "10", "10:20", "10:x:", "10:20:30:40"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}
