//! The W3C trace context: what says which span the next process continues.

use std::{fmt, str::FromStr};

use rand::Rng as _;

/// The name of the header.
pub const HEADER: &str = "traceparent";

/// The value of the header [`HEADER`], as <https://www.w3.org/TR/trace-context/> has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace; not 0.
    pub trace: u128,
    /// The span that what follows is a part of; not 0.
    pub span: u64,
    /// Whether the trace is kept.
    pub sampled: bool,
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Not a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct Malformed;

impl FromStr for Traceparent {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits).ok_or(Malformed)?;
            // `from_str_radix` would take signs and capitals.
            let lower = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
            if !part.bytes().all(lower) {
                return Err(Malformed);
            }
            u128::from_str_radix(part, 16).map_err(|_| Malformed)
        };
        let version = next(2)?;
        let (trace, span, flags) = (next(32)?, next(16)?, next(2)?);
        // A later version may say more, behind what this one says.
        let fits = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        let span = u64::try_from(span).map_err(|_| Malformed)?;
        if !fits || trace == 0 || span == 0 {
            return Err(Malformed);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// Whether a trace is among the `share`, from 0 to 1, that is kept. All processes keep the same ones, and one that keeps more keeps
/// these too.
///
/// OpenTelemetry would use the last 56 bits of the id. An event's are not random enough for that: generators of UUIDs of
/// version 7 count in them within a millisecond, so a burst would be kept or left as a whole.
pub(crate) fn is_sampled(trace: u128, share: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are mixed in")]
    let mixed = mix((trace >> 64) as u64 ^ mix(trace as u64));
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let place = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    place < share
}

/// The finalizer of `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>): every bit of the answer hangs on every bit of what
/// is asked.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// An id for a new span.
pub(crate) fn new_span() -> u64 {
    rand::rng().random_range(1..=u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_the_recommendation_allows_is_a_traceparent() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        const SPAN: &str = "b7ad6b7169203331";
        let table = [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-01-what-comes-later"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-+{}-01", &SPAN[1..]), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (String::new(), None),
        ];
        for (text, sampled) in table {
            let read: Option<Traceparent> = text.parse().ok();
            assert_eq!(read.map(|read| read.sampled), sampled, "{text}");
            assert!(read.is_none_or(|read| format!("{:032x}", read.trace) == TRACE), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let written = Traceparent { trace, span, sampled };
            prop_assert_eq!(written.to_string().len(), 55);
            prop_assert_eq!(written.to_string().parse(), Ok(written));
        }

        #[test]
        fn a_larger_share_holds_the_smaller_one(trace: u128, one in 0.0..=1.0, other in 0.0..=1.0) {
            let (less, more) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(!is_sampled(trace, less) || is_sampled(trace, more));
            prop_assert!(is_sampled(trace, 1.0) && !is_sampled(trace, 0.0));
        }
    }

    #[test]
    fn ids_that_are_random_or_counted_are_sampled_alike() {
        let counted = |number| Uuid::from_u128(0xD0E1_58F8_97AC_4A0C_AF51_C1C2_35E1_1A66 + number);
        let generators: [&dyn Fn(u128) -> Uuid; 3] = [&|_| Uuid::new_v4(), &|_| Uuid::now_v7(), &counted];
        for new in generators {
            let sampled = (0..10_000).filter(|number| is_sampled(new(*number).as_u128(), 0.1)).count();
            // Six standard deviations of a tenth of ten thousand.
            assert!((820..=1_180).contains(&sampled), "{sampled} of 10,000");
        }
    }
}
