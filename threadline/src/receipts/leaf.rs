//! A leaf: one row of a receipt, by its hash.

use uuid::Uuid;

use super::columns::Kind;

/// Bytes of a leaf: its kind, its id, its hash.
pub(super) const WIDTH: usize = 1 + 16 + 32;

/// Leaves of a part, at most.
pub(super) const PART: usize = 4_096;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// A row as it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) kind: Kind,
    pub(super) id: Uuid,
    pub(super) hash: Hash,
}

impl Leaf {
    /// As it is stored, and as a receipt's digest takes it.
    pub(super) fn bytes(&self) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        bytes[0] = self.kind as u8;
        bytes[1..17].copy_from_slice(self.id.as_bytes());
        bytes[17..].copy_from_slice(&self.hash);
        bytes
    }

    /// Of exactly as many bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, hash) = rest.split_at_checked(16)?;
        Some(Self {
            kind: Kind::of_byte(*kind)?,
            id: Uuid::from_slice(id).ok()?,
            hash: hash.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_read_as_it_is_stored() {
        let leaf = Leaf { kind: Kind::Change, id: Uuid::from_u128(7), hash: [9; 32] };
        assert_eq!(Leaf::read(&leaf.bytes()), Some(leaf));
        assert_eq!(leaf.bytes()[..18], [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 9]);
    }

    #[test]
    fn what_is_no_leaf_is_none() {
        let bytes = Leaf { kind: Kind::Action, id: Uuid::nil(), hash: [0; 32] }.bytes();
        for wrong in [&bytes[..48], &[], &[4; WIDTH], &[0; WIDTH], &[1; 50]] {
            assert_eq!(Leaf::read(wrong), None, "{wrong:?}");
        }
    }
}
