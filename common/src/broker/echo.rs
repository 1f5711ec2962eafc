//! What was asked for, field by field against what the server says it has.

use std::fmt;

use super::BrokerError;

/// Collects differences that matter.
#[derive(Debug, Default)]
pub(super) struct Echo(Vec<String>);

impl Echo {
    /// A field that must be equal.
    pub(super) fn equal<T: PartialEq + fmt::Debug>(mut self, field: &str, wanted: &T, found: &T) -> Self {
        if wanted != found {
            self.0.push(format!("{field} is {found:?}, must be {wanted:?}"));
        }
        self
    }

    /// A field that may be larger than asked for.
    pub(super) fn at_least<T: PartialOrd + fmt::Debug>(mut self, field: &str, wanted: &T, found: &T) -> Self {
        if found < wanted {
            self.0.push(format!("{field} is {found:?}, must be at least {wanted:?}"));
        }
        self
    }

    /// What does not fit, in words.
    pub(super) fn differences(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }

    /// An error unless everything fits.
    pub(super) fn verdict(self, what: &str, remedy: &str) -> Result<(), BrokerError> {
        match self.differences() {
            None => Ok(()),
            Some(differences) => {
                Err(BrokerError::Unfit { what: what.to_owned(), differences, remedy: remedy.to_owned() })
            }
        }
    }
}
