//! Where a search that has stopped goes on, for somebody who does not see everything: the row that it came to may be another's.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    direction::Direction,
    place::{Place, Unit},
    time_text,
};

/// Times that everybody knows: full hours, minutes, seconds, milliseconds.
const STEPS: [Duration; 4] = [Duration::HOUR, Duration::MINUTE, Duration::SECOND, Duration::MILLISECOND];

/// A place that says nothing of the row at `bound`, up to which everything was looked at. Going on there skips nothing, and repeats nothing
/// that stands before `own`, the last entry that is shown: it is a time behind that and behind `start`, the longest step that has one, or
/// the entry itself. None where it would lead no further than `start`.
pub(super) fn resume(
    bound: &Place,
    own: Option<&Place>,
    start: Option<OffsetDateTime>,
    unit: Unit,
    direction: Direction,
) -> Option<Place> {
    let behind = own.map(Place::leading_time).or(start);
    let is_further = |at: &OffsetDateTime| match (direction, behind) {
        (_, None) => true,
        (Direction::Older, Some(behind)) => *at < behind,
        (Direction::Newer, Some(behind)) => *at > behind,
    };
    let mut times = STEPS.into_iter().filter_map(|step| before(bound.leading_time(), step, direction));
    match times.find(is_further) {
        Some(at) => Some(Place::of_unit(at, &time_text(at), Uuid::nil(), unit)),
        None => own.cloned(),
    }
}

/// The last full step before the search comes to `at`, and never `at` itself.
fn before(at: OffsetDateTime, step: Duration, direction: Direction) -> Option<OffsetDateTime> {
    let (at, step) = (at.unix_timestamp_nanos(), step.whole_nanoseconds());
    let steps = match direction {
        Direction::Older => at.div_euclid(step) + 1,
        Direction::Newer => (at - 1).div_euclid(step),
    };
    let time = OffsetDateTime::from_unix_timestamp_nanos(steps * step).ok()?;
    // Others are not compared as they are stored.
    (2..=9_998).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn place(at: OffsetDateTime) -> Place {
        Place::of_unit(at, &time_text(at), Uuid::from_u128(7), Unit::None)
    }

    fn resumes_at(
        bound: OffsetDateTime,
        own: Option<OffsetDateTime>,
        start: OffsetDateTime,
        direction: Direction,
    ) -> Option<OffsetDateTime> {
        let own = own.map(place);
        let resumed = resume(&place(bound), own.as_ref(), Some(start), Unit::None, direction)?;
        let is_own = own.as_ref() == Some(&resumed);
        assert_eq!(resumed.entry.0.id.is_nil(), !is_own, "it has the id of an entry that is shown, or none");
        Some(resumed.leading_time())
    }

    #[test]
    fn a_search_goes_on_at_a_time_that_everybody_knows() {
        let (bound, start) = (datetime!(2026-03-01 10:15:20.123_456 UTC), datetime!(2026-03-01 12:30:00 UTC));
        let older = |own, start| resumes_at(bound, own, start, Direction::Older);
        assert_eq!(older(None, start), Some(datetime!(2026-03-01 11:00 UTC)));
        // It has to lead on: the full hour is where it came from.
        assert_eq!(older(None, datetime!(2026-03-01 11:00 UTC)), Some(datetime!(2026-03-01 10:16 UTC)));
        assert_eq!(
            older(None, datetime!(2026-03-01 10:15:20.125 UTC)),
            Some(datetime!(2026-03-01 10:15:20.124 UTC))
        );
        assert_eq!(older(None, datetime!(2026-03-01 10:15:20.124 UTC)), None);
        let newer = resumes_at(bound, None, datetime!(2026-03-01 08:30:00 UTC), Direction::Newer);
        assert_eq!(newer, Some(datetime!(2026-03-01 10:00 UTC)));
    }

    #[test]
    fn what_was_shown_is_not_repeated() {
        let bound = datetime!(2026-03-01 10:15:20.123_456 UTC);
        let start = datetime!(2026-03-01 12:30:00 UTC);
        let own = datetime!(2026-03-01 10:15:40.5 UTC);
        let next = resumes_at(bound, Some(own), start, Direction::Older);
        assert_eq!(next, Some(datetime!(2026-03-01 10:15:21 UTC)), "behind the last entry");
        let own = datetime!(2026-03-01 10:15:20.123_789 UTC);
        assert_eq!(resumes_at(bound, Some(own), start, Direction::Older), Some(own), "the last entry itself");
    }

    #[test]
    fn a_full_hour_at_which_something_stands_is_not_named() {
        let bound = datetime!(2026-03-01 10:00 UTC);
        let start = |hour| datetime!(2026-03-01 00:00 UTC) + Duration::hours(hour);
        assert_eq!(resumes_at(bound, None, start(12), Direction::Older), Some(start(11)));
        assert_eq!(resumes_at(bound, None, start(2), Direction::Newer), Some(start(9)));
    }
}
