//! A page, cut into messages: each is a part of the page, and what is published of it is decided here alone.
//!
//! The cut depends on the page and the settings, so a page that is published again has the same messages under the same ids.
//! One that is read again after a restart may begin elsewhere, or hold what has committed since, and is cut differently then:
//! the broker does not know these ids and stores the references twice, and delivering twice has the effect of once.

use common::outbox::reader::entries::Entry;

/// So many references are worth a pack. With fewer the broker has hardly less to do, and what travels alone is traced, delayed
/// and ended by itself.
const PACK_MIN: usize = 4;

/// The messages of a page, in order, of at most `most` references each. What is for every forwarder travels together; an
/// addressed entry travels alone, so that one which was taken out of a pack is not packed again.
pub(super) fn cut(page: &[Entry], most: usize) -> Vec<&[Entry]> {
    let least = PACK_MIN.min(most);
    page.chunk_by(|one, next| is_for_all(one) && is_for_all(next))
        .flat_map(|run| run.chunks(most))
        .flat_map(|part| part.chunks(if part.len() >= least { part.len() } else { 1 }))
        .collect()
}

fn is_for_all(entry: &Entry) -> bool {
    entry.forwarder.is_none() && entry.audit_event_id.is_some()
}

#[cfg(test)]
mod tests {
    use common::outbox::reader::rounds::Position;
    use uuid::Uuid;

    use super::*;

    /// Of entries like these: `*` for every forwarder, `a` addressed, `-` without an event.
    fn sizes(page: &str, most: usize) -> Vec<usize> {
        let entry = |(seq, kind)| Entry {
            position: Position { xid: 1, seq },
            audit_event_id: (kind != '-').then_some(Uuid::from_u128(7)),
            occurred_at: None,
            forwarder: (kind == 'a').then(|| "timeline".to_owned()),
        };
        let page: Vec<Entry> = (0..).zip(page.chars()).map(entry).collect();
        let messages = cut(&page, most);
        assert_eq!(messages.concat(), page, "everything, in order");
        messages.iter().map(|message| message.len()).collect()
    }

    #[test]
    fn many_entries_travel_together_and_few_alone() {
        for (page, most, expected) in [
            ("", 256, &[][..]),
            ("***", 256, &[1, 1, 1]),
            ("****", 256, &[4]),
            ("*********", 4, &[4, 4, 1]),
            ("***********", 4, &[4, 4, 1, 1, 1]),
            ("*****", 2, &[2, 2, 1]),
            ("*****", 1, &[1, 1, 1, 1, 1]),
        ] {
            assert_eq!(sizes(page, most), expected, "{page:?} by {most}");
        }
    }

    #[test]
    fn an_addressed_entry_and_one_without_an_event_travel_alone() {
        assert_eq!(sizes("****a****", 256), [4, 1, 4]);
        assert_eq!(sizes("aaaaa", 256), [1; 5]);
        assert_eq!(sizes("**a**", 256), [1; 5]);
        assert_eq!(sizes("*****-", 256), [5, 1]);
    }
}
