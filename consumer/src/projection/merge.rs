//! Two ordered streams, side by side: what is in both, and what only in one.

use futures::{
    Stream, TryStreamExt as _,
    stream::{self, BoxStream},
};
use uuid::Uuid;

/// What both streams hold under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pair<L, R> {
    /// In both.
    Both(L, R),
    /// Only in the left one.
    Left(L),
    /// Only in the right one.
    Right(R),
}

/// A thing with an id.
pub(crate) trait Keyed {
    fn key(&self) -> Uuid;
}

struct Heads<'a, L, R, E> {
    left: BoxStream<'a, Result<L, E>>,
    right: BoxStream<'a, Result<R, E>>,
    next: (Option<L>, Option<R>),
}

/// Walks two streams of ascending ids with one element of each in memory. The left one is read first: what it does not
/// show yet may be in the right one, not the other way round.
pub(crate) fn merge<'a, L, R, E>(
    left: BoxStream<'a, Result<L, E>>,
    right: BoxStream<'a, Result<R, E>>,
) -> impl Stream<Item = Result<Pair<L, R>, E>> + use<'a, L, R, E>
where
    L: Keyed + 'a,
    R: Keyed + 'a,
    E: 'a,
{
    let state = Heads { left, right, next: (None, None) };
    stream::try_unfold(state, async |mut state: Heads<'a, L, R, E>| {
        let left = match state.next.0.take() {
            Some(left) => Some(left),
            None => state.left.try_next().await?,
        };
        let right = match state.next.1.take() {
            Some(right) => Some(right),
            None => state.right.try_next().await?,
        };
        let pair = match (left, right) {
            (None, None) => return Ok(None),
            (Some(left), None) => Pair::Left(left),
            (None, Some(right)) => Pair::Right(right),
            (Some(left), Some(right)) if left.key() == right.key() => Pair::Both(left, right),
            (Some(left), Some(right)) if left.key() < right.key() => {
                state.next.1 = Some(right);
                Pair::Left(left)
            }
            (Some(left), Some(right)) => {
                state.next.0 = Some(left);
                Pair::Right(right)
            }
        };
        Ok(Some((pair, state)))
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, convert::Infallible};

    use futures::{FutureExt as _, StreamExt as _};
    use proptest::prelude::*;

    use super::*;

    impl Keyed for u8 {
        fn key(&self) -> Uuid {
            Uuid::from_u128((*self).into())
        }
    }

    fn side(ids: &BTreeSet<u8>) -> BoxStream<'static, Result<u8, Infallible>> {
        stream::iter(ids.clone().into_iter().map(Ok)).boxed()
    }

    proptest! {
        #[test]
        fn every_id_appears_once_on_the_sides_that_hold_it(
            left in proptest::collection::btree_set(any::<u8>(), 0..40),
            right in proptest::collection::btree_set(any::<u8>(), 0..40),
        ) {
            let pairs: Vec<Pair<u8, u8>> =
                merge(side(&left), side(&right)).try_collect().now_or_never().expect("ready").expect("infallible");
            let expected: Vec<Pair<u8, u8>> = left
                .union(&right)
                .map(|id| match (left.contains(id), right.contains(id)) {
                    (true, true) => Pair::Both(*id, *id),
                    (true, false) => Pair::Left(*id),
                    _ => Pair::Right(*id),
                })
                .collect();
            prop_assert_eq!(pairs, expected);
        }
    }
}
