//! One short value for any number of rows, whatever their order: equal exactly when the rows are.
//!
//! A lattice hash (`LtHash`: Bellare and Micciancio 1997; Lewi et al. 2019, "Securing Update Propagation with Homomorphic
//! Hashing"): each row is stretched to 1,024 numbers of 16 bits, and the numbers of all rows are added up. Adding or
//! xoring ordinary hashes would do against accidents, but an attacker who may choose rows can find others with the same
//! sum; here that is as hard as a lattice problem.

use std::fmt;

/// Numbers of 16 bits in the sum; 2 KiB.
const ELEMENTS: usize = 1_024;

/// The sum of any number of rows.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    elements: Box<[u16; ELEMENTS]>,
    rows: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { elements: Box::new([0; ELEMENTS]), rows: 0 }
    }
}

impl Digest {
    /// Adds a row, in its canonical form.
    pub fn add(&mut self, row: &RowHash) {
        for (element, number) in self.elements.iter_mut().zip(row.0.iter()) {
            *element = element.wrapping_add(*number);
        }
        self.rows += 1;
    }

    /// How many rows were added.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// The sum, hashed to 32 bytes and written in hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rows.to_le_bytes());
        for element in self.elements.iter() {
            hasher.update(&element.to_le_bytes());
        }
        f.write_str(&hasher.finalize().to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} rows, {self})", self.rows)
    }
}

/// A row, ready to be added to one sum or several.
pub struct RowHash(Box<[u16; ELEMENTS]>);

impl RowHash {
    /// Of a row's canonical form.
    #[must_use]
    pub fn new(row: &[u8]) -> Self {
        let mut bytes = [0; 2 * ELEMENTS];
        blake3::Hasher::new().update(row).finalize_xof().fill(&mut bytes);
        let mut elements = Box::new([0; ELEMENTS]);
        for (element, pair) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
            *element = u16::from_le_bytes([pair[0], pair[1]]);
        }
        Self(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest<'a>(rows: impl IntoIterator<Item = &'a str>) -> String {
        let mut digest = Digest::default();
        for row in rows {
            digest.add(&RowHash::new(row.as_bytes()));
        }
        digest.to_string()
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_else_does() {
        let rows = ["a", "b", "c"];
        assert_eq!(digest(rows), digest(["c", "a", "b"]));
        for others in
            [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", "c"], &["a", "a", "b", "c"], &["abc"], &[]]
        {
            assert_ne!(digest(rows), digest(others.iter().copied()), "{others:?}");
        }
    }

    /// What xor would forget.
    #[test]
    fn a_row_that_is_there_twice_does_not_vanish() {
        assert_ne!(digest(["a", "a"]), digest([]));
        assert_ne!(digest(["a", "b", "b"]), digest(["a", "c", "c"]));
    }

    /// Receipts of earlier versions must stay verifiable.
    #[test]
    fn the_value_never_changes() {
        assert_eq!(digest(["a", "b"]), "46dd7f75eae9223905994853ef0d6c8054a6c3cac1449b5a7d2072dad91e8f45");
    }
}
