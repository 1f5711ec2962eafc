//! Nonces that were used, for as long as their headers are good.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::serve::refused::Refused;

/// As many as are kept. When there are so many within a minute, further ones are refused: none that was used is let go before its time.
const COUNT_MAX: usize = 10_000;

/// Each with the second at which it ends.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<HashMap<String, i64>>);

impl Nonces {
    /// Takes a nonce that was not used, and keeps it until `expires`.
    pub(super) fn accept(&self, nonce: &str, expires: i64, now: i64) -> Result<(), Refused> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, expires| *expires > now);
        if used.contains_key(nonce) || used.len() >= COUNT_MAX {
            return Err(Refused::Replayed);
        }
        used.insert(nonce.to_owned(), expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_accepted_once_while_it_counts_and_no_used_one_is_let_go_for_another() {
        let nonces = Nonces::default();
        assert_eq!(nonces.accept("first", 60, 0), Ok(()));
        assert_eq!(nonces.accept("first", 60, 59), Err(Refused::Replayed));
        for number in 1..COUNT_MAX {
            assert_eq!(nonces.accept(&number.to_string(), 60, 0), Ok(()), "{number}");
        }
        assert_eq!(nonces.accept("one more", 60, 0), Err(Refused::Replayed));
        assert_eq!(nonces.accept("one more", 120, 60), Ok(()));
    }
}
